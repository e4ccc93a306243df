"""Finds a browser, and looks at a built page as a reader would: moves every control by keyboard, with no network."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import access

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# The theme before a reader has chosen a mode, html-manager's schema checker, and a page icon we do not have.
HARMLESS = ("Got invalid theme mode", "strict mode", "ajv", "favicon.ico")
CONTROLS = {  # model in the widget state -> what a reader's keyboard reaches on the page
    "IntSliderModel": ".widget-slider .noUi-handle",
    "FloatSliderModel": ".widget-slider .noUi-handle",
    "SelectionSliderModel": ".widget-slider .noUi-handle",
    "DropdownModel": ".widget-dropdown select",
    "ToggleButtonsModel": ".widget-toggle-buttons",
    "PlayModel": ".widget-play",
}


def find_browser(install: bool = True) -> str:
    """The path of a Chromium or Chrome: named by CHROME or CHROMIUM, on the PATH, Playwright's own, or from apt-get.

    Raises:
        LookupError: there is none and none could be installed; the message says what to do.
    """
    for variable in ("CHROME", "CHROMIUM"):
        if os.environ.get(variable):
            found = shutil.which(os.environ[variable])
            if not found:
                raise LookupError(f"{variable}={os.environ[variable]} is no program that can be run")
            return found
    if found := next(filter(None, map(shutil.which, NAMES)), None) or _playwrights_own():
        return found
    if install:
        _run([sys.executable, "-m", "playwright", "install", "chromium"])
        if found := _playwrights_own():
            return found
        if shutil.which("apt-get") and getattr(os, "geteuid", lambda: 1)() == 0:
            _run(["apt-get", "update"])
            _run(["apt-get", "install", "-y", "--no-install-recommends", "chromium"])
            if found := shutil.which("chromium"):
                return found
    raise LookupError("no browser: install Chromium or Chrome, or run `playwright install chromium`, or set CHROME")


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        path = play.chromium.executable_path
    return path if Path(path).exists() else None


def _run(command: list[str]) -> None:
    """Runs an installer; its failure shows in the browser's absence."""
    try:
        subprocess.run(command, check=False, timeout=600, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return


@dataclass
class Report:
    """What was found on one page."""

    page: str
    problems: list[str] = field(default_factory=list)
    controls: int = 0  # moved by keyboard
    formulas: int = 0  # typeset
    pictures: int = 0
    stops: int = 0  # of the Tab key
    loaded: set[str] = field(default_factory=set)  # addresses, before anything is moved


def open_page(browser, url: str, home: str, report: Report, width: int = 1280, height: int = 900):
    """Opens ``url`` in a fresh context that reaches nothing but ``home``; what goes wrong is added to ``report``."""
    context = browser.new_context(viewport={"width": width, "height": height}, service_workers="block")
    page = context.new_page()

    def guard(route):
        if route.request.url.startswith((home, "data:", "blob:")):
            report.loaded.add(route.request.url)
            route.continue_()
        else:
            report.problems.append(f"asked the network for {route.request.url}")
            route.abort()

    def listen(message):
        text = f"{message.text} {message.location.get('url', '')}"
        if message.type == "error" and not any(word in text for word in HARMLESS):
            report.problems.append(f"console: {text}")

    context.route("**/*", guard)
    page.on("console", listen)
    page.on("pageerror", lambda error: report.problems.append(f"page error: {error}"))
    page.set_default_timeout(120_000)  # a busy machine is not the page's fault
    page.goto(url, wait_until="load")
    page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("() => MathJax.startup.promise")
    count = len(controls_in_state(page))
    if count:
        page.wait_for_function(f"n => ({DRIVEN}).length >= n", arg=count, timeout=60_000)
    page.wait_for_timeout(300)  # labels of widgets are typeset after they are shown
    return page


DRIVEN = f"[...document.querySelectorAll({json.dumps(', '.join(sorted(set(CONTROLS.values()))))})]"


def controls_in_state(page) -> list[str]:
    """Names of the models in the page's widget state that a reader can move."""
    names = page.evaluate(
        """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]')]
              .flatMap(s => Object.values(JSON.parse(s.textContent).state).map(m => m.model_name))"""
    )
    return [name for name in names if name in CONTROLS]


def look(page, report: Report) -> None:
    """Formulas, pictures, and the width of the page."""
    report.formulas = page.evaluate("() => document.querySelectorAll('mjx-container').length")
    report.pictures = page.evaluate("() => document.querySelectorAll('main img').length")
    report.problems += page.evaluate(
        r"""() => {
          const found = [];
          for (const e of document.querySelectorAll('.math'))
            if (!e.querySelector('mjx-container')) found.push('formula not typeset: ' + e.textContent.slice(0, 80));
          for (const e of document.querySelectorAll('mjx-merror, [data-mjx-error]'))
            found.push('formula with an error: ' + (e.getAttribute('data-mjx-error') || e.textContent).slice(0, 80));
          const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          for (let n; (n = walk.nextNode()); )
            if (/\\\(|\\\[|\$\$|\\begin\{/.test(n.data) &&
                !n.parentElement.closest('pre, code, script, style, noscript'))
              found.push('raw formula: ' + n.data.trim().slice(0, 80));
          for (const e of document.querySelectorAll('.noUi-handle, .widget-toggle-buttons'))
            if (!document.getElementById((e.getAttribute('aria-labelledby') || '').split(' ')[0])?.textContent)
              found.push('control without a name: ' + e.className);
          for (const e of document.querySelectorAll('img')) {
            const name = e.src.slice(0, 80);
            if (!(e.getAttribute('alt') || '').trim()) found.push('picture without alternative text: ' + name);
            if (e.complete && !e.naturalWidth) found.push('picture does not show: ' + name);
          }
          const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
          if (wide > room) {
            const out = [...document.querySelectorAll('main *')].find(e => e.getBoundingClientRect().right > room + 1);
            found.push(`scrolls sideways: ${wide} in ${room} pixels, first <${out?.tagName}> ${out?.className}`);
          }
          for (const e of document.querySelectorAll('main img, main .jupyter-widgets'))
            if (e.offsetParent && e.getBoundingClientRect().right > room + 1)
              found.push(`cut off at the right: <${e.tagName}> ${e.className}`);
          return found;
        }"""
    )


def move_all(page, report: Report) -> None:
    """Moves every control by keyboard; each has to change a picture beside it."""
    wanted = controls_in_state(page)
    for element in page.evaluate_handle(f"() => {DRIVEN}").get_properties().values():
        control = element.as_element()
        if control is None:
            continue
        name = control.evaluate("e => [e.className, e.closest('.jupyter-widgets').innerText].join(' ')")
        if _move(page, control):
            report.controls += 1
        else:
            report.problems.append(f"the keyboard changes no picture: {' '.join(name.split())[:120]}")
    shown = len(page.evaluate_handle(f"() => {DRIVEN}").get_properties())
    if shown != len(wanted):
        report.problems.append(f"{shown} controls on the page, {len(wanted)} in its widget state")


def _pictures(control) -> list[str]:
    return control.evaluate("e => [...e.closest('.cell_output').querySelectorAll('img')].map(i => i.src)")


def _move(page, control) -> bool:
    """Whether some key changes a picture of the control's cell."""
    before = _pictures(control)
    kind = control.evaluate("e => e.className + ' ' + e.tagName")
    if "widget-play" in kind:
        control.query_selector("button").press("Enter")
        changed = _changes(page, control, before, 3000)
        if changed:  # stop it again: the next control shares the picture
            control.query_selector_all("button")[1].press("Enter")
            page.wait_for_timeout(200)
        return changed
    if "widget-toggle-buttons" in kind:
        for button in control.query_selector_all("button:not(.mod-active)"):
            button.press("Enter")
            if _changes(page, control, before):
                return True
        return False
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "Home", "End"):
        control.press(key)
        if _changes(page, control, before):
            return True
    return False


def _changes(page, control, before: list[str], patience: int = 1500) -> bool:
    for _ in range(patience // 50):
        if _pictures(control) != before:
            return True
        page.wait_for_timeout(50)
    return False


def check_page(browser, url: str, home: str, shots: Path | None = None, axe_on_phone: bool = False) -> Report:
    """Opens a page once and looks at it wide, dark and on a phone; moves its controls.

    ``shots``: a folder for pictures of all three (they take a quarter of the time).
    """
    report = Report(url.rsplit("/", 1)[-1])
    page = open_page(browser, url, home, report)

    def shoot(name: str) -> None:
        if shots:
            page.evaluate("() => scrollTo(0, 0)")
            page.screenshot(path=shots / f"{report.page.removesuffix('.html')}-{name}.png", full_page=True)

    look(page, report)
    report.problems += access.at_once(page) + access.repeated_ids(page) + access.axe(page)
    loaded = set(report.loaded)
    shoot("wide")
    report.stops, hidden = access.focus(page)
    access.set_theme(page, "dark")
    report.problems += hidden + [f"dark: {text}" for text in access.focus(page)[1] + access.axe(page, inks_only=True)]
    shoot("dark")
    access.set_theme(page, "light")
    move_all(page, report)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    look(page, report)
    if axe_on_phone:
        report.problems += [f"phone: {text}" for text in access.axe(page)]
    shoot("phone")
    page.context.close()
    report.loaded = loaded
    return report
