"""The built page in a real browser, no network: every control moves a picture, every formula is set, phones fit."""

import functools
import os
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

from browser import FLAGS, check_page, find_browser  # noqa: E402
from execute import WIDGETS  # noqa: E402

PAGES = Path(os.environ.get("L2E_PAGES", ROOT / "_build" / "html"))
SHOTS = ROOT / "_build" / "screenshots"
NOT_OURS = {"index", "genindex", "search", "py-modindex"}  # a redirect and the theme's own pages
FOUND = sorted(path for path in PAGES.glob("*.html") if path.stem not in NOT_OURS)


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
    report = check_page(browser, home + path.name, home, SHOTS)
    assert not report.problems, "\n".join(report.problems)
    assert report.controls == controls_of_notebook(path.stem), "a control of the notebook is missing on the page"


@pytest.mark.parametrize("path", FOUND[:2], ids=lambda path: path.stem)
def test_page_opens_without_a_server(browser, path):
    """A reader may open the file itself."""
    here = PAGES.resolve().as_uri() + "/"
    report = check_page(browser, here + path.name, here, SHOTS / "file")
    assert not report.problems, "\n".join(report.problems)


def controls_of_notebook(stem: str) -> int:
    import nbformat
    from browser import CONTROLS

    book = PAGES.parent / "book"
    if (book / f"{stem}.md").is_file():
        return 0  # a page without code
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
        report = check_page(browser, address + "broken.html", address, tmp_path / "shots")
    finally:
        server.shutdown()
    assert any(complaint in text for text in report.problems), report.problems


def test_find_browser_names_a_bad_choice(monkeypatch):
    monkeypatch.setenv("CHROME", "/nowhere/chrome")
    with pytest.raises(LookupError, match="/nowhere/chrome"):
        find_browser()
