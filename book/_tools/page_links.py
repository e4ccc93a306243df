"""Sphinx extension of this book: the buttons at the top of a page lead where a reader can do something.

A chapter's notebook is made from a script, so "suggest edit" opens the script; Kaggle stands beside Colab and Binder;
every page says how to cite the book. The theme has made its buttons before.
"""

from urllib.parse import quote

CITE = "references", "cite-this-book"  # page and heading


def buttons(found: list[dict], pagename: str, chapters: set[str], pathto) -> list[dict]:
    """The theme's buttons with ours among them."""
    made = []
    for button in found:
        inner = list(button.get("buttons", ()))
        if button.get("label") == "source-buttons" and pagename in chapters:
            inner = [_to_script(each) for each in inner]
        if button.get("label") == "launch-buttons":
            inner += [_kaggle(each["url"]) for each in inner if each.get("text") == "Colab"]
        made.append({**button, "buttons": inner} if inner else button)
    if made:
        made.append(
            {
                "type": "link",
                "url": f"{pathto(CITE[0]).rstrip('#')}#{CITE[1]}",  # of the page itself pathto says "#"
                "tooltip": "Cite this book",
                "text": "",
                "icon": "fas fa-quote-right",
                "label": "cite-button",
            }
        )
    return made


def _to_script(button: dict) -> dict:
    if button.get("label") != "source-edit-button":
        return button
    return {**button, "url": button["url"].removesuffix(".ipynb") + ".py"}


def _kaggle(colab: str) -> dict:
    """A button that opens in Kaggle what another opens in Colab, by the address on GitHub in both."""
    github = "https://github.com" + colab.partition("/github")[2]
    return {
        "type": "link",
        "text": "Kaggle",
        "tooltip": "Launch on Kaggle",
        "icon": "fab fa-kaggle",
        "url": f"https://www.kaggle.com/kernels/welcome?src={quote(github, safe='')}",
    }


def on_page(app, pagename, templatename, context, doctree):
    """The last before a page is written."""
    chapters = {name for name in app.env.found_docs if app.env.doc2path(name).endswith(".ipynb")}
    context["header_buttons"] = buttons(context.get("header_buttons", []), pagename, chapters, context["pathto"])


def setup(app):
    app.connect("html-page-context", on_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
