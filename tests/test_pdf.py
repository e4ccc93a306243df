"""The book on paper: whole, in order, nothing cut off, found by its bookmarks, with its fonts in it."""

import os
import re
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

from browser import find_browser  # noqa: E402
from pdf import make, names_in_order, pages_of  # noqa: E402
from pypdf import PdfReader  # noqa: E402

PAGES = Path(os.environ.get("L2E_PAGES", ROOT / "_build" / "html"))
BOOK = Path(os.environ.get("L2E_PDF", ROOT / "_build" / "l2e-book.pdf"))


def give_up(reason: str):
    """In continuous integration what cannot be tested has failed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def pdf():
    if not BOOK.is_file() or not (PAGES / "index.html").is_file():
        give_up(f"no {BOOK.name} in _build; run `make pdf`")
    return PdfReader(BOOK)


@pytest.fixture(scope="module")
def articles(pdf):
    """Name of a page -> its article on the built page."""
    names = names_in_order(PAGES)
    soups = {name: BeautifulSoup((PAGES / f"{name}.html").read_text(encoding="utf-8"), "html.parser") for name in names}
    found = {name: soup.select_one("article.bd-article") for name, soup in soups.items()}
    for article in found.values():
        for link in article.select(".headerlink"):
            link.decompose()
    return found


def links(page) -> list:
    return [item.get_object() for item in page.get("/Annots", [])]


def text_of(pdf, numbers) -> str:
    return plain("".join(pdf.pages[number - 1].extract_text() for number in numbers))


def plain(text: str) -> str:
    """Letters and digits alone: a PDF keeps no spaces at the end of lines."""
    return re.sub(r"\W+", "", text)


def flat(outline, level=1):
    for item in outline:
        if isinstance(item, list):
            yield from flat(item, level + 1)
        else:
            yield level, item


def test_every_chapter_and_section_is_bookmarked_in_order(pdf, articles):
    marks = [(level, plain(mark.title)) for level, mark in flat(pdf.outline) if level <= 2]
    wanted = [(1, "Contents")]
    for article in articles.values():
        for head in article.find_all(["h1", "h2"]):
            wanted.append((int(head.name[1]), plain(head.get_text())))
    assert marks[: len(wanted)] == wanted
    assert marks[len(wanted)] == (1, "Solutions")
    numbers = [pdf.get_destination_page_number(mark) for _, mark in flat(pdf.outline)]
    assert numbers == sorted(numbers)


def test_the_contents_name_the_page_of_each_chapter(pdf, articles):
    places = pages_of(pdf)
    contents = text_of(pdf, range(2, min(places[name] for name in articles)))
    for name, article in articles.items():
        title = plain(article.h1.get_text())
        assert f"{title}{places[name]}" in contents
        assert title in text_of(pdf, [places[name]]), f"{title} is not on page {places[name]}"


def test_a_sentence_of_each_chapter_can_be_copied(pdf, articles):
    for name, article in articles.items():
        said = [p.get_text() for p in article.select("section > p") if not p.select(".math")]
        sentence = plain(next(text for text in said if len(text) > 40))
        section = next(p for p in article.select("section > p") if plain(p.get_text()) == sentence).parent
        start = pages_of(pdf)[name if section.h1 else f"{name}--{section['id']}"]
        assert sentence[:60] in text_of(pdf, range(start, min(start + 3, len(pdf.pages) + 1))), name


def test_every_figure_is_there(pdf, articles):
    """Pictures of the pages, and of each explorer one frame."""
    wanted = sum(len(article.select("img, script[type$='widget-view+json']")) for article in articles.values())
    shown = sum("/Image" == item.get_object()["/Subtype"] for page in pdf.pages for item in xobjects(page))
    assert shown >= wanted


def xobjects(page):
    return page["/Resources"].get("/XObject", {}).values()


def test_every_exercise_leads_to_its_solution(pdf, articles):
    wanted = sum(len(article.select(".solution")) for article in articles.values())
    places = pages_of(pdf)
    led = {link["/Dest"].removeprefix("/") for page in pdf.pages for link in links(page) if "/Dest" in link}
    solutions = [places[name] for name in led if "-solution-" in name]
    assert len(solutions) == wanted > 0
    assert min(solutions) >= places["solutions"]


def test_no_page_is_blank(pdf):
    for number, page in enumerate(pdf.pages, 1):
        drawn = page.get_contents().get_data()
        texts, pictures = drawn.count(b" Tj") + drawn.count(b" TJ"), drawn.count(b" Do")
        assert texts + pictures > 2, f"page {number} has its head and its number alone"


def test_fonts_are_embedded(pdf):
    fonts = {
        id(font): font
        for page in pdf.pages
        for font in (item.get_object() for item in page["/Resources"].get("/Font", {}).values())
    }
    assert fonts
    for font in fonts.values():
        if font["/Subtype"] == "/Type3":
            continue  # drawn in the file itself
        font = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        descriptor = font["/FontDescriptor"].get_object()
        assert any(key in descriptor for key in ("/FontFile", "/FontFile2", "/FontFile3")), font["/BaseFont"]


def test_links_inside_lead_to_pages(pdf):
    places, inside = pages_of(pdf), 0
    for page in pdf.pages:
        for link in links(page):
            if "/Dest" in link:
                assert link["/Dest"].removeprefix("/") in places
                inside += 1
            else:
                assert "book.invalid" not in link["/A"]["/URI"]
    assert inside > 300


def test_it_says_what_it_is(pdf):
    assert pdf.metadata.title.startswith("Inhibiting Monosemantic Neurons") and pdf.metadata.author
    root = pdf.trailer["/Root"]
    assert root["/Lang"] == "en" and root["/MarkInfo"]["/Marked"], "tags are for readers who listen"
    assert root["/PageMode"] == "/UseOutlines"


def test_it_is_small_enough_to_send():
    if BOOK.is_file():
        assert BOOK.stat().st_size < 30e6


@pytest.fixture(scope="module")
def browser():
    try:
        return find_browser()
    except LookupError as error:
        give_up(str(error))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<div style="width:900px">wide</div>', "wider than the paper:.*in 00_start: wide"),
        ('<img src="nowhere.png" alt="a">', "not to be had .*nowhere.png"),
        ('<img src="https://example.org/a.png" alt="a">', "not to be had .*example.org"),
    ],
)
def test_what_would_be_cut_off_or_missing_is_an_error(browser, tmp_path, body, complaint):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "vendor").symlink_to(ROOT / "book" / "_extra" / "_static" / "vendor")
    (tmp_path / "_static" / "pygments.css").write_text("")
    (tmp_path / "index.html").write_text('<meta content="0; url=00_start.html">')
    page = f'<nav class="bd-docs-nav"></nav><article class="bd-article"><h1>Start</h1>{body}</article>'
    (tmp_path / "00_start.html").write_text(page)
    with pytest.raises(LookupError, match=f"(?s){complaint}"):
        make(tmp_path, tmp_path / "book.pdf")
    assert not (tmp_path / "book.pdf").exists()
