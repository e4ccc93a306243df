"""Glossary, notation and reference pages: short entries, links that lead somewhere, names that exist."""

import re
import sys
from pathlib import Path

import pytest

import l2e_min
from l2e_min.show.equations import slug

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_tools"))

import book_page  # noqa: E402

PAGE = (BOOK / "12_glossary.md").read_text()
WORDS, NOTATION = PAGE.split("## Notation")
ENTRIES = re.findall(r"^(\S.*)\n((?:  .+\n)+)", WORDS.split("```")[1].partition(":sorted:\n")[2], re.M)
PAGES = [*BOOK.glob("*.md"), *BOOK.glob("[0-9][0-9]_*.py")]
ALIASES = {
    "f1": "f_1",
    "false killing rate": "fkr",
    "mid-2": "two middle",
    "monosemantic scale": "ms",
    "probe": "probing",
    "reverse deactivation": "rd",
}


def headings(page: Path) -> set[str]:
    """The slugs of a page's headings."""
    text = re.sub(r"^# ?", "", page.read_text(), flags=re.M) if page.suffix == ".py" else page.read_text()
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_to_a_heading(page):
    for file, heading in re.findall(r"\]\((\w+\.(?:ipynb|md))(?:#([^)]+))?\)", page.read_text()):
        target = BOOK / file.replace(".ipynb", ".py")
        assert target.exists(), f"{page.name} links to {file}"
        assert not heading or heading in headings(target), f"{page.name} links to {file}#{heading}"


def test_the_glossary_was_read_whole():
    assert len(ENTRIES) == sum(not line.startswith((" ", ":", "`")) and bool(line.strip())
                               for line in WORDS.split("## Words")[1].splitlines())  # fmt: skip
    assert len(ENTRIES) > 70 and len({term for term, _ in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("term, text", ENTRIES, ids=[term for term, _ in ENTRIES])
def test_an_entry_is_short_used_and_says_where_it_is_explained(term, text):
    lines = text.splitlines()
    assert len(lines) <= 2 and max(map(len, lines)) <= 125
    links = re.findall(r"\]\((\w+)\.ipynb#", text)
    assert len(links) == 1
    chapter = " ".join((BOOK / f"{links[0]}.py").read_text().lower().replace("\n# ", " ").split())
    names = (term.lower(), term.lower().replace(" ", "-"), ALIASES.get(term.lower(), term.lower()))
    assert any(name in chapter for name in names), f"{links[0]} does not speak of {term}"


def test_code_names_of_the_notation_exist():
    source = "\n".join(path.read_text() for path in (ROOT / "l2e_min").rglob("*.py"))
    rows = [re.split(r" *\| *", line)[1:-1] for line in NOTATION.splitlines() if line.startswith("| $")]
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 5
        for name in re.findall(r"`(\w+)`", row[3]):
            assert re.search(rf"\b{name}\b", source), name


def test_the_reference_has_every_public_name():
    text = (BOOK / "11_reference.md").read_text()
    for name in l2e_min.__all__:
        assert re.search(rf"^### `{name}`$", text, re.M)
        assert re.search(rf"^\.\. auto(class|function):: l2e_min\.{name}$", text, re.M)


def test_the_reference_names_what_exists():
    from importlib import import_module

    text = (BOOK / "11_reference.md").read_text()
    for kind, name in re.findall(r"^\.\. auto(\w+):: ([\w.]+)$", text, re.M):
        if kind == "module":
            import_module(name)
            continue
        module, _, last = name.rpartition(".")
        found = getattr(import_module(module), last) if kind != "method" else None
        assert found is None or found.__doc__, f"{name} has no docstring"


def test_indented_lines_of_a_docstring_become_code_and_arguments_do_not():
    text = """Finds it.

    x = find(1)
    y = 2 * x

Args:
    x: a number.
        Or none.

Attributes (buffers, no parameters):
    n: how many.

So:

    z = 3

Returns:
    It."""
    found = book_page.indented_is_code(text.splitlines())
    assert found[:6] == ["Finds it.", "", "::", "", "    x = find(1)", "    y = 2 * x"]
    assert found[7:12] == ["Args:", "    x: a number.", "        Or none.", "", "Attributes:"]
    assert found[14:] == ["So:", "", "::", "", "    z = 3", "", "Returns:", "    It."]


def test_every_public_name_is_linked_in_a_chapter():
    chapters = "\n".join(path.read_text() for path in BOOK.glob("0[1-5]_*.py"))
    for name in l2e_min.__all__:
        assert f"[`{name}`](11_reference.md#{slug(name)})" in chapters, name
