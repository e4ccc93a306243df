"""One HTML page out of the built pages, for paper: title, contents, the chapters in order, solutions at the end."""

import html
import json
from pathlib import Path

from bs4 import BeautifulSoup, Tag

VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]'
STATE = 'script[type="application/vnd.jupyter.widget-state+json"]'
CHOICES = {"DropdownModel", "SelectionSliderModel", "ToggleButtonsModel"}  # controls with a list of labels
SHORT = 12  # lines of code or output that stay on one page
NOT_PRINTED = (  # scripts, headings' links to themselves, hidden lists of chapters, folded code, checks of no answer
    "script, .headerlink, .toctree-wrapper, .tag_hide-input > details, .tag_exercise > .cell_output"
)

SHELL = """<!doctype html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="_static/pygments.css"><link rel="stylesheet" href="print.css"><style>{running}</style>
<script>window.MathJax = {{options: {{processHtmlClass: "math|output_area"}}}}</script>
<script defer src="_static/vendor/mathjax/tex-chtml-full.js"></script></head>
<body><section class="title-page"><p class="book-title">{title}</p><p>{author}</p><p>{about}</p></section>
<article class="contents" id="contents"><h1>Contents</h1>
<p>This is the printed form of a book that runs. An explorer, which a reader moves on the page, is printed with one
setting of its controls. Code that is folded away on the page is left out, and so is what <code>check</code> says to an
exercise not yet done; both are in the chapter's notebook. Solutions are at the end of the book.</p>
<ul>{lines}</ul></article>
{body}</body></html>"""


def compose(pages: Path, names: list[str], title: str, author: str, about: str) -> str:
    """The whole book as one page of HTML, whose relative addresses are those of ``pages``.

    An empty ``<span data-page-of="ID">`` stands wherever the number of the page that holds ``ID`` belongs.

    Args:
        pages: the folder of the built pages.
        names: the pages' names without ``.html``, in the order of the book.
        title: of the book, plain text, as is ``author``.
        about: a line of HTML for the title page.

    Raises:
        LookupError: a page is missing, or shows a widget that has no printed form.
    """
    parts = [chapter(pages, name) for name in names]
    solutions = move_solutions(parts)
    parts += [solutions] if solutions.h2 else []
    mend_links(parts)
    for number, part in enumerate(parts):
        part["style"] = f"page: part{number}"
    running = "".join(
        f"@page part{number} {{ @top-left {{ content: {json.dumps(part.h1.get_text(), ensure_ascii=False)} }} }}\n"
        for number, part in enumerate(parts)
    )
    lines = "".join(
        f'<li class="{head.name}"><a href="#{place}"><span>{head.decode_contents()}</span>'
        f'<span class="page-number" data-page-of="{place}"></span></a></li>'
        for head, place in headings(parts)
    )
    return SHELL.format(
        title=html.escape(title),
        author=html.escape(author),
        about=about,
        running=running,
        lines=lines,
        body="\n".join(map(str, parts)),
    )


def headings(parts: list[Tag]) -> list[tuple[Tag, str]]:
    """Titles of chapters and sections, each with the id of what it heads."""
    found = [head for part in parts for head in part.find_all(["h1", "h2"])]
    return [(head, head.find_parent("article" if head.name == "h1" else "section")["id"]) for head in found]


def chapter(pages: Path, name: str) -> Tag:
    """The article of one page with ids that are its own in the whole book, as it is to be printed."""
    path = pages / f"{name}.html"
    if not path.is_file():
        raise LookupError(f"{path} is missing; run `make book`")
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    state = soup.select_one(STATE)
    models = json.loads(state.string)["state"] if state else {}
    for view in article.select(VIEW):
        view.replace_with(explorer(models, json.loads(view.string)["model_id"]))
    for useless in article.select(NOT_PRINTED):
        useless.decompose()
    for fold in article.select("details"):  # a solution's cell
        fold.summary.decompose()
        fold.name = "div"
    for code in article.select("pre"):
        code["class"] = "short" if code.get_text().count("\n") <= SHORT else "long"
    for element in article.find_all(id=True):
        element["id"] = f"{name}--{element['id']}"
    article["id"] = name
    for link in article.find_all("a", href=True):
        page, _, anchor = link["href"].partition("#")
        stem = page.removesuffix(".html") or name
        if (pages / f"{stem}.html").is_file():
            link["href"] = f"#{stem}--{anchor}" if anchor else f"#{stem}"
        elif "://" not in page:
            link.unwrap()  # leads to a file beside the page
    return article


def explorer(models: dict, model_id: str) -> Tag:
    """What an explorer shows when its page is opened, and how its controls stand then."""
    models = {name: model["state"] | {"kind": model["model_name"]} for name, model in models.items()}

    def model(reference: str) -> dict:
        return models[reference.removeprefix("IPY_MODEL_")]

    shown, settings = [], []
    for child in map(model, model(model_id)["children"]):
        while child["kind"] == "StackModel":
            child = model(child["children"][child["selected_index"]])
        if child["kind"] in CHOICES:
            settings.append(f"{child['description']}: {child['_options_labels'][child['index']]}")
        elif child["kind"] in ("HTMLModel", "HTMLMathModel"):
            shown.append(f"<div>{child['value']}</div>")
        else:
            raise LookupError(f"no printed form for a widget of kind {child['kind']}")
    line = f"Explorer, here with {html.escape('; '.join(settings))}. It moves on the page."
    inner = f'<figure class="explorer output_area">{"".join(shown)}<figcaption>{line}</figcaption></figure>'
    return BeautifulSoup(inner, "html.parser").figure


def move_solutions(parts: list[Tag]) -> Tag:
    """Takes the solutions out of the chapters; each exercise says where its own is now."""
    soup = BeautifulSoup('<article class="solutions" id="solutions"><h1>Solutions</h1></article>', "html.parser")
    for part in parts:
        found = part.select(".solution")
        if not found:
            continue
        section = soup.new_tag("section", id=f"solutions--{part['id']}")
        section.append(soup.new_tag("h2", string=part.h1.get_text()))
        soup.article.append(section)
        for solution in found:
            place = solution["id"]
            exercise = part.find(id=solution.select_one(".admonition-title a")["href"][1:])
            line = f'<p class="see"><a href="#{place}">Solution on page <span data-page-of="{place}"></span></a></p>'
            exercise.append(BeautifulSoup(line, "html.parser"))
            cells = []
            for sibling in solution.find_next_siblings(True):
                if "tag_solution" not in sibling.get("class", []):
                    break
                cells.append(sibling)
            section.extend([solution.extract(), *(cell.extract() for cell in cells)])
    return soup.article


def mend_links(parts: list[Tag]) -> None:
    """A link to something that is not printed leads to its chapter."""
    ids = {element["id"] for part in parts for element in [part, *part.find_all(id=True)]}
    for part in parts:
        for link in part.find_all("a", href=True):
            if link["href"].startswith("#") and link["href"][1:] not in ids:
                link["href"] = link["href"].partition("--")[0]
