"""The buttons of a page, and where a reader is told how to cite the book."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import page_links  # noqa: E402

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
GITHUB = CONFIG["repository"]["url"]
COLAB = f"https://colab.research.google.com/github/{GITHUB.removeprefix('https://github.com/')}/blob/main/book"


def theirs(page: str) -> list[dict]:
    """Buttons as the theme makes them."""
    edit = {"label": "source-edit-button", "text": "Suggest edit", "url": f"{GITHUB}/edit/main/book/{page}"}
    issue = {"label": "source-issues-button", "text": "Open issue", "url": f"{GITHUB}/issues/new?title={page}"}
    made = [{"label": "source-buttons", "type": "group", "buttons": [edit, issue]}]
    if page.endswith(".ipynb"):
        launch = [{"text": "Binder", "url": "https://mybinder.org"}, {"text": "Colab", "url": f"{COLAB}/{page}"}]
        made.insert(0, {"label": "launch-buttons", "type": "group", "buttons": launch})
    return made


def links(page: str, chapters: set[str]) -> dict[str, str]:
    """Text or tooltip of every button -> its address."""
    made = page_links.buttons(theirs(page), page.rpartition(".")[0], chapters, lambda name: f"{name}.html")
    inner = [each for button in made for each in button.get("buttons", [button])]
    return {each["text"] or each["tooltip"]: each["url"] for each in inner}


def test_a_chapters_buttons():
    found = links("02_a.ipynb", {"02_a"})
    assert found["Suggest edit"] == f"{GITHUB}/edit/main/book/02_a.py", "the script; the notebook is made from it"
    assert found["Colab"] == f"{COLAB}/02_a.ipynb" and found["Binder"] == "https://mybinder.org"
    source = f"{GITHUB}/blob/main/book/02_a.ipynb".replace(":", "%3A").replace("/", "%2F")
    assert found["Kaggle"] == f"https://www.kaggle.com/kernels/welcome?src={source}"
    assert found["Open issue"].endswith("02_a.ipynb") and found["Cite this book"] == "references.html#cite-this-book"


def test_a_page_of_text_keeps_its_source():
    found = links("11_reference.md", {"02_a"})
    assert found["Suggest edit"] == f"{GITHUB}/edit/main/book/11_reference.md"
    assert "Kaggle" not in found and "Cite this book" in found


def test_the_page_on_citing_leads_to_its_own_heading():
    (made,) = [
        b for b in page_links.buttons(theirs("references.md"), "references", set(), lambda name: "#") if "url" in b
    ]
    assert made["url"] == "#cite-this-book"


def test_a_page_without_buttons_gets_none():
    assert page_links.buttons([], "search", set(), str) == []


def test_the_button_leads_to_a_heading_that_says_what_the_citation_file_says():
    page, heading = page_links.CITE
    text = (ROOT / "book" / f"{page}.md").read_text()
    assert heading in [line[3:].lower().replace(" ", "-") for line in text.splitlines() if line.startswith("## ")]
    assert f"{page}" in [part["file"] for part in yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())["chapters"]]
    fields = dict(re.findall(r"^  (\w+) += \{+([^}]+)\}+", text, re.M))
    assert fields["title"] == CITATION["title"] and fields["version"] == CITATION["version"]
    assert fields["url"] == CITATION["repository-code"] == GITHUB
    assert fields["author"] == CITATION["authors"][0]["name"]


# Citation File Format 1.2.0: what it requires, and what it knows of what this file uses.
REQUIRED = {"cff-version", "message", "title", "authors"}
KNOWN = REQUIRED | {"abstract", "keywords", "license", "references", "repository-code", "type", "version"}
PARTS = {"authors", "collection-title", "identifiers", "title", "type", "year"}


def test_the_citation_file_is_of_its_form():
    assert REQUIRED <= set(CITATION) <= KNOWN and CITATION["cff-version"] == "1.2.0" and CITATION["type"] == "software"
    assert all(isinstance(CITATION[name], str) for name in KNOWN - {"authors", "keywords", "references"})
    for part in CITATION["references"]:
        assert {"authors", "title", "type"} <= set(part) <= PARTS
        assert part["type"] in {"article", "conference-paper"} and isinstance(part["year"], int)
        assert all(set(author) == {"family-names", "given-names"} for author in part["authors"])
        assert all(set(one) == {"type", "value"} and one["type"] == "other" for one in part["identifiers"])


@pytest.mark.parametrize("name", ["CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_the_readme_leads_there(name):
    assert f"]({name})" in (ROOT / "README.md").read_text()


def test_the_changelog_has_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.+?)\]", text, re.M)[0] == "Unreleased" and f"[Unreleased]: {GITHUB}" in text
    chapters = [path.stem for path in sorted((ROOT / "book").glob("0[1-6]_*.py"))]
    assert [int(n) for n in re.findall(r"^- Chapter (\d+),", text, re.M)][: len(chapters)] == [
        int(c[:2]) for c in chapters
    ]
