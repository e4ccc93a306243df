"""Prints the built pages as one PDF, with the browser that tests them and without a network.

    python book/_tools/pdf.py --pages _build/html --out _build/l2e-book.pdf

All chapters become one page of HTML (print_page.py), so that links, bookmarks and tags of the PDF come from the
browser. It is printed twice: first to learn on which page each heading lies, then with these numbers in the contents.
"""

import argparse
import html
import io
import logging
import re
import sys
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

from browser import FLAGS, find_browser
from print_page import compose

ROOT = Path(__file__).resolve().parents[2]
HERE = "http://book.invalid/"  # never resolved: every request is answered from files
OLDEST = 131  # the first Chromium that prints a page's number and running title from CSS

ROOM = 627  # pixels between the margins of print.css, 166 mm

FILL = """pages => { for (const span of document.querySelectorAll("[data-page-of]"))
  span.textContent = pages[span.dataset.pageOf] ?? ""; }"""
TOO_WIDE = """room => [...document.querySelectorAll("body *:not(mjx-container *)")]
  .filter(e => e.getBoundingClientRect().right > room + 1)
  .map(e => `<${e.tagName.toLowerCase()} class="${e.className}">`
     + ` in ${e.closest("article")?.id}: ${e.textContent.trim().slice(0, 80)}`)"""


def names_in_order(pages: Path) -> list[str]:
    """The names of the pages in the order of the book, from the list of chapters that each of them shows."""
    root = re.search(r"url=(\S+)\.html", (pages / "index.html").read_text(encoding="utf-8"))
    first = BeautifulSoup((pages / f"{root[1]}.html").read_text(encoding="utf-8"), "html.parser")
    links = [link["href"] for link in first.select("nav.bd-docs-nav .toctree-l1 > a")]
    return [root[1], *(link.removesuffix(".html") for link in links if link.endswith(".html") and root[1] not in link)]


def make(pages: Path, out: Path) -> int:
    """Writes the book as a PDF and returns its number of pages.

    Args:
        pages: the folder of the built pages.
        out: the file to write.

    Raises:
        LookupError: a page, a browser, or something that a page shows is missing, or something is wider than the paper.
    """
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader, PdfWriter

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it counts Chromium's objects differently
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    address = html.escape(config["repository"]["url"])
    about = f'Version {citation["version"]}, {citation["license"]} licence<br><a href="{address}">{address}</a>'
    book = compose(pages, names_in_order(pages), config["title"], config["author"], about)

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=find_browser(), args=FLAGS)
        if int(chromium.version.partition(".")[0]) < OLDEST:
            raise LookupError(f"Chromium {chromium.version} is too old to print the book; {OLDEST} or newer is needed")
        page, missing = open_book(chromium, book, pages)
        wide = page.evaluate(TOO_WIDE, ROOM)
        numbers, before = {}, None
        while numbers != before:
            before = numbers
            page.evaluate(FILL, numbers)
            data = page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
            pdf = PdfReader(io.BytesIO(data))
            numbers = pages_of(pdf)
        chromium.close()
    if missing:
        raise LookupError("not to be had without a network: " + ", ".join(missing))
    if wide:
        raise LookupError("wider than the paper:\n" + "\n".join(wide))

    writer = PdfWriter(clone_from=pdf)
    writer.add_metadata(
        {
            "/Title": config["title"],
            "/Author": config["author"],
            "/Subject": " ".join(citation["abstract"].split()),
            "/Keywords": ", ".join(citation["keywords"]),
        }
    )
    writer.page_mode = "/UseOutlines"  # a reader shows the bookmarks
    writer.create_viewer_preferences().display_doctitle = True
    out.parent.mkdir(parents=True, exist_ok=True)
    writer.write(out)
    return len(pdf.pages)


def open_book(chromium, book: str, pages: Path):
    """The page, loaded and typeset, and a list of what it asked for in vain."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    missing = []

    def answer(route):
        name = route.request.url.removeprefix(HERE).partition("?")[0]
        folder = fonts if name.startswith("fonts/") else pages
        path = folder / name.removeprefix("fonts/")
        if name == "":
            route.fulfill(body=book, content_type="text/html; charset=utf-8")
        elif name == "print.css":
            route.fulfill(path=Path(__file__).with_name("print.css"))
        elif route.request.url.startswith(HERE) and path.is_file():
            route.fulfill(path=path)
        else:
            missing.append(route.request.url)
            route.abort()

    page = chromium.new_page(viewport={"width": ROOM, "height": 900}, service_workers="block")
    page.set_default_timeout(0)  # a busy machine may take minutes
    page.route("**/*", answer)
    page.emulate_media(media="print", color_scheme="light")
    page.goto(HERE, wait_until="load")
    page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("() => MathJax.startup.promise.then(() => document.fonts.ready).then(() => null)")
    return page, missing


def pages_of(pdf) -> dict[str, int]:
    """For every place that something in the PDF links to, the number of its page."""
    numbers = {page.indirect_reference.idnum: number for number, page in enumerate(pdf.pages, 1)}
    places = pdf.named_destinations
    return {name.removeprefix("/"): numbers[place.page.idnum] for name, place in places.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=Path, default=ROOT / "_build" / "html", help="the built pages (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "l2e-book.pdf", help="the PDF (%(default)s)")
    args = parser.parse_args()
    try:
        count = make(args.pages, args.out)
    except LookupError as error:
        sys.exit(str(error))
    print(f"The book on paper, {count} pages, {args.out.stat().st_size / 1e6:.1f} MB: {args.out}")


if __name__ == "__main__":
    main()
