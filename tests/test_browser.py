"""The built page in a real browser, no network: controls, formulas, phones, dark mode, keyboard, axe-core, search."""

import functools
import os
import re
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import access  # noqa: E402
from browser import FLAGS, Report, check_page, find_browser, look, move_all, open_page  # noqa: E402
from execute import WIDGETS  # noqa: E402

PAGES = Path(os.environ.get("L2E_PAGES", ROOT / "_build" / "html"))
SHOTS = Path(os.environ["L2E_SHOTS"]) if "L2E_SHOTS" in os.environ else None  # a folder for pictures of every page
AXE_ON_PHONE = {"00_welcome", "03_scale_study", "09_scoreboard"}  # what differs on a phone differs on every page alike
FOUND = sorted(path for path in PAGES.glob("*.html") if path.stem != "index")  # a redirect


def give_up(reason: str):
    """In continuous integration what cannot be tested has failed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def browser():
    try:
        path = find_browser()
    except LookupError as error:
        give_up(str(error))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        return


def serve(folder: Path):
    """A server of ``folder`` on a free port of 127.0.0.1, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture(scope="session")
def home():
    server, address = serve(PAGES)
    yield address
    server.shutdown()


def test_the_page_is_built():
    if not FOUND:
        give_up("no page in _build/html; run `make book`")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_page(browser, home, path):
    if SHOTS:
        SHOTS.mkdir(parents=True, exist_ok=True)
    report = check_page(browser, home + path.name, home, SHOTS, path.stem in AXE_ON_PHONE)
    assert not report.problems, "\n".join(report.problems)
    assert report.controls == controls_of_notebook(path.stem), "a control of the notebook is missing on the page"
    assert report.stops > 20, "the Tab key reaches the menu at least"
    explorers = path.read_text(encoding="utf-8").count("application/vnd.jupyter.widget-view+json")
    assert sum("/frame-" in url for url in report.loaded) == explorers, "an explorer's first frame comes with the page"


@pytest.mark.parametrize("path", FOUND[:2], ids=lambda path: path.stem)
def test_page_opens_without_a_server(browser, path):
    """A reader may open the file itself."""
    here = PAGES.resolve().as_uri() + "/"
    report = Report(path.name)
    page = open_page(browser, here + path.name, here, report)
    look(page, report)
    move_all(page, report)
    page.context.close()
    assert not report.problems, "\n".join(report.problems)


@pytest.fixture(scope="module")
def chapter(browser, home):
    """The first chapter, open; each test leaves it as folded as it found it."""
    path = next(path for path in FOUND if path.stem.startswith("01"))
    report = Report(path.name)
    page = open_page(browser, home + path.name, home, report)
    yield page
    page.context.close()
    assert not report.problems, report.problems


FOCUSED = "() => { const e = document.activeElement; return e === document.body ? '' : e.outerHTML.slice(0, 150); }"


def test_the_keyboard_walks_the_page_and_is_never_caught(chapter):
    stops, hidden = access.focus(chapter)
    assert not hidden
    chapter.reload(wait_until="load")
    chapter.keyboard.press("Tab")
    assert "#main-content" in chapter.evaluate(FOCUSED), "the first stop skips the menu"
    walked = 1
    for _ in range(stops + 20):
        chapter.keyboard.press("Tab")
        if not chapter.evaluate(FOCUSED):
            break
        walked += 1
    else:
        pytest.fail(f"Tab does not leave the page: {chapter.evaluate(FOCUSED)}")
    assert walked >= 0.9 * stops, "one list of tokens or buttons may count as one stop, no more"
    chapter.keyboard.press("Tab")
    chapter.keyboard.press("Enter")
    chapter.keyboard.press("Tab")
    assert chapter.evaluate("() => !!document.activeElement.closest('main')"), "the skip link leads past the menu"


def test_the_keyboard_unfolds_solutions(chapter):
    for button in chapter.query_selector_all(".solution button.toggle-button"):
        solution = chapter.locator(f"[id='{button.get_attribute('data-target')}']")
        content = solution.locator(":scope > :not(.admonition-title)").first
        assert button.get_attribute("aria-label").startswith("Solution to Exercise")
        assert not content.is_visible() and button.get_attribute("aria-expanded") == "false"
        button.press("Enter")
        assert content.is_visible() and button.get_attribute("aria-expanded") == "true"
        button.press(" ")
        assert button.get_attribute("aria-expanded") == "false"
    link = chapter.query_selector(".solution .admonition-title a")
    link.press("Enter")  # leads to the exercise and folds nothing
    assert chapter.url.endswith(link.get_attribute("href"))
    assert not chapter.query_selector_all(".solution:not(.toggle-hidden)")


def test_the_keyboard_unfolds_code(chapter):
    found = chapter.query_selector_all("details.hide > summary")
    assert found
    for summary in found:
        assert not summary.get_attribute("aria-label"), "its text is its name"
        summary.press("Enter")
        assert summary.evaluate("e => e.parentElement.open")
        summary.press(" ")
        assert not summary.evaluate("e => e.parentElement.open")


def test_the_keyboard_opens_the_menus(chapter):
    for button in chapter.query_selector_all(".article-header-buttons button.dropdown-toggle"):
        menu = button.evaluate_handle("e => e.nextElementSibling").as_element()
        assert not menu.is_visible()
        button.press("Enter")
        assert menu.is_visible()
        chapter.keyboard.press("Tab")
        assert menu.evaluate("e => e.contains(document.activeElement)"), "Tab leads into the menu"
        chapter.keyboard.press("Escape")
        assert not menu.is_visible()


@pytest.mark.parametrize("served", [True, False], ids=["served", "file"])
def test_search_needs_no_network(browser, home, served):
    """By a word of a chapter, from the search field that Ctrl+K opens; also where the file itself was opened."""
    here = home if served else PAGES.resolve().as_uri() + "/"
    report = Report("search.html")
    page = open_page(browser, here + FOUND[0].name, here, report)
    page.keyboard.press("Control+k")
    page.keyboard.type("monosemantic")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a", timeout=60_000)
    page.wait_for_function("() => /found|finished/i.test(document.querySelector('.search-summary')?.textContent || '')")
    links = page.evaluate(
        "() => [...document.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))"
    )
    pages = {re.sub(r"[?#].*", "", link) for link in links}
    assert len(pages) > 5 and all((PAGES / name).is_file() for name in pages)
    found = access.axe(page)
    page.context.close()
    assert not report.problems + found, "\n".join(report.problems + found)


def controls_of_notebook(stem: str) -> int:
    import nbformat
    from browser import CONTROLS

    book = PAGES.parent / "book"
    if not (book / f"{stem}.ipynb").is_file():
        return 0  # a page of text, or one of the theme's own
    notebook = nbformat.read(book / f"{stem}.ipynb", as_version=4)
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    return sum(model["model_name"] in CONTROLS for model in state.values())


DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
BROKEN = """<!doctype html><html><head><title>t</title><script>
window.MathJax = {startup: {promise: Promise.resolve()}};</script></head>
<body><main>%s</main></body></html>"""


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<img src="https://example.org/a.png" alt="a">', "asked the network"),
        ("<p>raw \\(x^2\\)</p>", "raw formula"),
        ('<span class="math">x</span>', "formula not typeset"),
        (f'<img src="{DOT}">', "without alternative text"),
        ('<div style="width:2000px">wide</div>', "scrolls sideways"),
        ('<p style="color:#aaa;background:#fff">faint</p>', "axe: color-contrast"),
        ("<button></button>", "axe: button-name"),
        ("<style>button:focus { outline: none }</style><button>go</button>", "no visible focus"),
        ("<style>button:focus { outline: 3px solid #eee }</style><button>go</button>", "faint focus"),
        ('<p id="a">one</p><p id="a">two</p>', "id stands twice: a"),
        (f'<article><details><img alt="a" src="{DOT}"></details></article>', "first picture does not show"),
        ('<article><div class="cell_output"><div class="jupyter-widgets">x</div></div></article>', "without a frame"),
        ("<script>throw new Error('boom')</script>", "page error"),
        ("<script>console.error('bad')</script>", "console: bad"),
        (
            '<div class="cell_output"><div class="jupyter-widgets widget-dropdown"><select><option>a<option>b</select>'
            f'</div><img alt="a" src="{DOT}"></div><script type="application/vnd.jupyter.widget-state+json">'
            '{"state":{"a":{"model_name":"DropdownModel"}}}</script>',
            "the keyboard changes no picture",
        ),
    ],
)
def test_the_test_sees(browser, tmp_path, body, complaint):
    """Each of the things that must not happen is noticed when it does."""
    (tmp_path / "broken.html").write_text(BROKEN % body)
    server, address = serve(tmp_path)
    try:
        report = check_page(browser, address + "broken.html", address)
    finally:
        server.shutdown()
    assert any(complaint in text for text in report.problems), report.problems


def test_find_browser_names_a_bad_choice(monkeypatch):
    monkeypatch.setenv("CHROME", "/nowhere/chrome")
    with pytest.raises(LookupError, match="/nowhere/chrome"):
        find_browser()
