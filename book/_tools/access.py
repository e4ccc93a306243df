"""Looks at an open page for those who do not see it, or do not use a mouse: axe-core, the focus, what shows at once."""

import functools
import json

# Code has the same few inks in thousands of words: each pair of ink and paper is judged once. Formulas have the ink of
# the text around them, in hundreds of glyphs. Hidden, not taken away, so that nothing moves; else a chapter takes long.
HIDE_REPEATS = """() => {
  const seen = new Set();
  for (const block of document.querySelectorAll('.highlight')) {
    const paper = getComputedStyle(block).backgroundColor;
    for (const word of block.querySelectorAll('pre span')) {
      const style = getComputedStyle(word), pair = [word.className, style.color, style.backgroundColor, paper].join();
      word.dataset.repeated = seen.has(pair);
      if (word.checkVisibility()) seen.add(pair);
    }
  }
  const style = document.createElement('style');
  style.id = 'repeats-hidden';
  style.textContent = '[data-repeated="true"], mjx-container, mjx-container * { visibility: hidden !important; }';
  document.head.append(style);
}"""
INKS = ("color-contrast", "link-in-text-block")  # the rules that light and dark decide
BAD = ("serious", "critical")


@functools.cache
def _axe() -> str:
    from axe_playwright_python.base import AXE_SCRIPT

    return AXE_SCRIPT


def axe(page, inks_only: bool = False) -> list[str]:
    """Serious and critical findings of axe-core (all its default rules, or those about colour alone)."""
    if not page.evaluate("() => !!window.axe"):
        page.evaluate(_axe())
    found = []
    if not inks_only:
        found += _run(page, {"rules": {name: {"enabled": False} for name in INKS}})
    page.evaluate(HIDE_REPEATS)
    found += _run(page, {"runOnly": list(INKS)})
    page.evaluate("() => document.getElementById('repeats-hidden').remove()")
    return found


def _run(page, options: dict) -> list[str]:
    # preload would fetch every style sheet again to look for a locked orientation; there is none.
    options = {"resultTypes": ["violations"], "preload": False, **options}
    result = page.evaluate(f"() => axe.run({json.dumps(options)})")
    return [
        f"axe: {rule['id']} ({rule['impact']}): {node['target']}, {node['failureSummary'].splitlines()[-1].strip()}"
        for rule in result["violations"]
        if rule["impact"] in BAD
        for node in rule["nodes"]
    ]


def focus(page) -> tuple[int, list[str]]:
    """How many things the Tab key reaches, and which of them do not show that they have the focus.

    Shown is an outline of at least 2 pixels, 3 : 1 against what is behind it (WCAG 2.2, 1.4.11 and 2.4.13).
    """
    page.keyboard.press("Tab")  # from now on a focus is one of the keyboard
    stops, hidden = page.evaluate(
        r"""() => {
          const rgb = text => { const n = text.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
          const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = e => {
            for (e = e.parentElement; e; e = e.parentElement) {
              const colour = rgb(getComputedStyle(e).backgroundColor);
              if (colour[3] > 0.9) return colour;
            }
            return [255, 255, 255, 1];
          };
          let stops = 0;
          const hidden = [];
          const shown = {visibilityProperty: true, contentVisibilityAuto: true};
          for (const e of document.querySelectorAll('a[href], button, summary, select, input, textarea, [tabindex]')) {
            if (e.tabIndex < 0 || e.disabled || !e.checkVisibility(shown)) continue;
            e.focus({preventScroll: true});
            if (document.activeElement !== e) continue;
            stops += 1;
            const style = getComputedStyle(e), colour = rgb(style.outlineColor);
            const [a, b] = [light(colour), light(behind(e))].sort((x, y) => y - x);
            if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2 || colour[3] < 0.9)
              hidden.push('no visible focus: ' + e.outerHTML.slice(0, 120));
            else if ((a + 0.05) / (b + 0.05) < 3)
              hidden.push(`faint focus, ${style.outlineColor} on ${behind(e)}: ` + e.outerHTML.slice(0, 120));
          }
          document.activeElement.blur();
          return [stops, hidden];
        }"""
    )
    return stops, hidden


def at_once(page) -> list[str]:
    """What a reader should see without a click and does not: the first picture, and a frame of every explorer."""
    return page.evaluate(
        """() => {
          const seen = {visibilityProperty: true, opacityProperty: true};
          const shows = e => e.complete && e.naturalWidth && e.checkVisibility(seen);
          const found = [], first = document.querySelector('article img');
          if (first && (!shows(first) || first.loading === 'lazy'))
            found.push('the first picture does not show at once: ' + first.src.slice(0, 80));
          for (const e of document.querySelectorAll('article .cell_output .jupyter-widgets'))
            if (!e.parentElement.closest('.jupyter-widgets') && ![...e.querySelectorAll('img')].some(shows))
              found.push('explorer without a frame: ' + e.innerText.slice(0, 80));
          return found;
        }"""
    )


def repeated_ids(page) -> list[str]:
    """Ids that stand more than once on the page."""
    return page.evaluate(
        """() => {
          const all = [...document.querySelectorAll('[id]:not(svg *)')].map(e => e.id);
          return [...new Set(all.filter((id, i) => all.indexOf(id) !== i))].map(id => 'id stands twice: ' + id);
        }"""
    )


STILL = "*, ::before, ::after { transition: none !important; animation: none !important; }"


def set_theme(page, name: str) -> None:
    """Light or dark, as the theme's own button does it, at once: half a transition has colours that nobody reads."""
    page.add_style_tag(content=STILL)
    page.evaluate("name => { const root = document.documentElement.dataset; root.theme = root.mode = name; }", name)
    page.wait_for_timeout(100)
