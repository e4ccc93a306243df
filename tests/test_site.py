"""The built pages as files: what they weigh, where their links and buttons lead. No browser."""

import functools
import gzip
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = Path(os.environ.get("L2E_PAGES", ROOT / "_build" / "html"))
FOUND = sorted(path.stem for path in PAGES.glob("*.html") if path.stem != "index")
THEMES = {"genindex", "search", "py-modindex"}  # pages of the theme, with no source of ours
CHAPTERS = [stem for stem in FOUND if (ROOT / "book" / f"{stem}.py").is_file()]
GITHUB = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
MOST = 1_500_000  # bytes
WIDGET_STATE = re.compile(r'<script type="application/vnd\.jupyter\.widget-state\+json">(.*?)</script>', re.S)


class Page(HTMLParser):
    """Ids, links and pictures of a page, and texts of links with their tooltips."""

    def __init__(self, stem: str):
        super().__init__()
        self.html = (PAGES / f"{stem}.html").read_text(encoding="utf-8")
        self.ids, self.links, self.pictures, self.tooltips, self.alts = set(), set(), set(), {}, []
        self.feed(self.html)
        self.frames = set(re.findall(r'src=\\"([^"\\]+)\\"', "".join(WIDGET_STATE.findall(self.html))))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
            self.tooltips[found.get("title")] = found["href"]
        if tag == "img":
            self.pictures.add(found["src"])
            if not found["src"].startswith("_static/"):  # the theme's logos
                self.alts.append(found.get("alt") or "")


read = functools.cache(Page)


def size(names) -> int:
    """Bytes of files as a server that compresses sends them."""
    return sum(len(gzip.compress((PAGES / name).read_bytes(), 6, mtime=0)) for name in names)


def weight(stem: str) -> tuple[int, int]:
    """Bytes of a page as it opens, and with every frame of its explorers.

    Counted are the page, its pictures, one frame of each explorer (the largest, whichever is shown first), and the
    index that search needs. Not counted is what all pages share and a browser fetches once: scripts and styles under
    ``_static``.
    """
    page = read(stem)
    own = {f"{stem}.html", "searchindex.js", *(name for name in page.pictures if not name.startswith("_static/"))}
    explorers = page.html.count("application/vnd.jupyter.widget-view+json")
    frames = sorted((size([name]) for name in page.frames), reverse=True)
    opening = size(own)
    return opening + sum(frames[:explorers]), opening + sum(frames)


def test_the_pages_are_built():
    if not FOUND:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no page in _build/html; run `make book`")


def test_every_page_is_light(capsys):
    weights = {stem: weight(stem) for stem in FOUND}
    with capsys.disabled():
        print("\n  kilobytes, compressed       opening   with all frames")
        for stem, (opening, whole) in weights.items():
            print(f"  {stem:26}{opening / 1000:9.0f}{whole / 1000:18.0f}")
    assert {stem: opening for stem, (opening, _) in weights.items() if opening > MOST} == {}
    assert {stem: whole for stem, (_, whole) in weights.items() if whole > 2 * MOST} == {}


@pytest.mark.parametrize("stem", CHAPTERS)
def test_frames_are_files(stem):
    """An explorer's frames do not weigh on the page, and each of them is there."""
    page = read(stem)
    state = "".join(WIDGET_STATE.findall(page.html))
    assert "base64," not in state
    notebook = json.loads((PAGES / "_sources" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    models = (
        notebook["metadata"].get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    )
    images = {
        found
        for model in models.values()
        for found in re.findall(r'src="data:(.*?)"', str(model["state"].get("value")))
    }
    assert len(page.frames) == len(images), "one file for each picture in the notebook's widgets"
    assert all((PAGES / name).is_file() for name in page.frames | page.pictures)


@pytest.mark.parametrize("stem", FOUND)
def test_links_lead_somewhere(stem):
    """Inside the book to a page and its heading, into the repository to a file of it."""
    broken = []
    for link in read(stem).links:
        if link.startswith(GITHUB):
            part = re.match(r"/(?:blob|edit|tree)/main/([^?#]+)", link.removeprefix(GITHUB))
            if part and not (ROOT / unquote(part[1])).exists():
                broken.append(link)
        elif not urlsplit(link).scheme:
            path, _, place = unquote(link).partition("#")
            target = PAGES / path if path else PAGES / f"{stem}.html"
            if not target.is_file():
                broken.append(link)
            elif place and target.suffix == ".html" and place not in read(target.stem).ids:
                broken.append(link)
    assert not broken


@pytest.mark.parametrize("stem", CHAPTERS)
def test_a_chapters_buttons(stem):
    """Run it, download it, change it, say what is wrong with it, cite it: the buttons, and that they lead there."""
    to, here = read(stem).tooltips, GITHUB.removeprefix("https://github.com/")
    assert to["Launch on Colab"] == f"https://colab.research.google.com/github/{here}/blob/main/book/{stem}.ipynb"
    assert to["Launch on Binder"].endswith(f"book/{stem}.ipynb") and unquote(to["Launch on Kaggle"]).endswith(
        f"{stem}.ipynb"
    )
    assert to["Suggest edit"] == f"{GITHUB}/edit/main/book/{stem}.py" and (ROOT / "book" / f"{stem}.py").is_file()
    assert to["Open an issue"].startswith(f"{GITHUB}/issues/new?")
    assert to["Source repository"] == GITHUB
    assert to["Cite this book"] == "references.html#cite-this-book" and "cite-this-book" in read("references").ids
    assert to["Download source file"] == f"_sources/{stem}.ipynb"
    notebook = json.loads((PAGES / to["Download source file"]).read_text(encoding="utf-8"))
    committed = json.loads((ROOT / "book" / f"{stem}.ipynb").read_text(encoding="utf-8"))
    assert [cell["source"] for cell in notebook["cells"]] == [cell["source"] for cell in committed["cells"]]


@pytest.mark.parametrize("stem", [stem for stem in FOUND if stem not in THEMES])
def test_alternative_text_says_what_is_to_be_seen(stem):
    """Every picture's words: a sentence, not a file's name; two pictures of a page do not say the same."""
    page = read(stem)
    frames = re.findall(r'src=\\"[^"\\]+frame-.*?alt=\\"(.*?)\\"', "".join(WIDGET_STATE.findall(page.html)))
    for alt in page.alts + frames:
        assert len(alt.split()) >= 4 and not re.search(r"\.(png|svg|jpg)\b", alt), alt
    assert len(set(page.alts)) == len(page.alts)
    assert len(set(frames)) >= 0.9 * len(frames), "a frame's words change with its controls"
