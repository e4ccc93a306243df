"""The page that is printed: built pages in, one page out, with links, solutions and explorers as paper needs them."""

import json
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

from pdf import names_in_order  # noqa: E402
from print_page import compose  # noqa: E402

PAGE = """<html><head>{state}</head><body><nav class="bd-docs-nav">
<ul><li class="toctree-l1"><a href="#">Start</a></li></ul>
<ul><li class="toctree-l1"><a href="01_one.html">One</a></li>
<li class="toctree-l1"><a href="02_two.html">Two</a></li></ul>
</nav><article class="bd-article">{body}</article></body></html>"""

ONE = """<section id="one"><h1>1 One<a class="headerlink" href="#one">#</a></h1>
<p>See <a href="02_two.html#exercises">there</a>, <a href="#exercises">here</a>,
<a href="02_two.html#folded">folded</a>, <a href="02_two.html">all</a>,
<a href="https://example.org/#a">away</a>
and <a href="_sources/x.ipynb">a file</a>.</p>
<div class="cell tag_hide-input">
<details class="admonition"><summary>Show</summary><pre id="secret">plot()</pre></details>
<div class="cell_output">
<script type="application/vnd.jupyter.widget-view+json">{"model_id": "box"}</script></div></div>
<section id="exercises"><h2>Exercises</h2>
<div class="exercise" id="ex-a"><p>Why?</p></div>
<div class="cell tag_exercise"><div class="cell_input">answer = ...</div><div class="cell_output">not yet</div></div>
<div class="solution" id="01_one-solution-1">
<p class="admonition-title">Solution to <a href="#ex-a">1</a></p><p>Since.</p></div>
<div class="cell tag_solution tag_hide-cell"><details><summary>Show</summary><pre>answer = 1</pre></details></div>
<p>After.</p></section></section>"""
TWO = """<section id="two"><h1>2 Two</h1><section id="exercises"><h2>Exercises</h2></section>
<div class="cell tag_hide-input"><details><pre id="folded">x</pre></details></div></section>"""

WIDGETS = {
    "box": ("VBoxModel", {"children": ["IPY_MODEL_title", "IPY_MODEL_choice", "IPY_MODEL_outer"]}),
    "title": ("HTMLMathModel", {"value": "<strong>Heading</strong>"}),
    "choice": ("DropdownModel", {"description": "size", "_options_labels": ["small", "a & b"], "index": 1}),
    "outer": ("StackModel", {"children": ["IPY_MODEL_no", "IPY_MODEL_inner"], "selected_index": 1}),
    "inner": ("StackModel", {"children": ["IPY_MODEL_yes", "IPY_MODEL_no"], "selected_index": 0}),
    "yes": ("HTMLModel", {"value": '<img alt="shown" src="data:,">'}),
    "no": ("HTMLModel", {"value": '<img alt="another frame" src="data:,">'}),
}


def write_pages(folder: Path, widgets: dict) -> None:
    models = {name: {"model_name": kind, "state": state} for name, (kind, state) in widgets.items()}
    state = json.dumps({"state": models})
    tag = f'<script type="application/vnd.jupyter.widget-state+json">{state}</script>'
    (folder / "index.html").write_text('<meta http-equiv="Refresh" content="0; url=00_start.html" />')
    for name, body in (("00_start", "<h1>Start</h1>"), ("01_one", ONE), ("02_two", TWO)):
        (folder / f"{name}.html").write_text(PAGE.format(state=tag, body=body))


@pytest.fixture
def printed(tmp_path):
    write_pages(tmp_path, WIDGETS)
    return BeautifulSoup(compose(tmp_path, names_in_order(tmp_path), "A <title>", "Us", "v1"), "html.parser")


def test_parts_are_in_order_and_in_the_contents(printed):
    parts = [article["id"] for article in printed.find_all("article")]
    assert parts == ["contents", "00_start", "01_one", "02_two", "solutions"]
    listed = [link["href"] for link in printed.select(".contents li a")]
    assert listed == [
        *("#00_start", "#01_one", "#01_one--exercises", "#02_two", "#02_two--exercises"),
        *("#solutions", "#solutions--01_one"),
    ]
    assert [span["data-page-of"] for span in printed.select(".contents li .page-number")] == [a[1:] for a in listed]
    assert printed.title.get_text() == "A <title>"


def test_every_link_inside_leads_somewhere(printed):
    ids = [element["id"] for element in printed.find_all(id=True)]
    assert len(ids) == len(set(ids))
    links = {link.get_text(): link["href"] for link in printed.select("article[id='01_one'] p a")}
    assert links["there"] == "#02_two--exercises"
    assert links["here"] == "#01_one--exercises"
    assert links["folded"] == "#02_two", "what it leads to is not printed"
    assert links["all"] == "#02_two"
    assert links["away"] == "https://example.org/#a"
    assert "a file" not in links and "a file" in printed.get_text()
    assert {link["href"][1:] for link in printed.select("a[href^='#']")} <= set(ids)


def test_what_is_folded_stays_out_and_solutions_stand_at_the_end(printed):
    chapter, solutions = printed.find(id="01_one"), printed.find(id="solutions")
    text = chapter.get_text()
    assert "plot()" not in text and "not yet" not in text and "answer = 1" not in text and "Since." not in text
    assert "answer = ..." in text and "After." in text
    assert "Since." in solutions.get_text() and "answer = 1" in solutions.get_text()
    assert "Show" not in printed.get_text()
    (see,) = chapter.select("#01_one--ex-a .see a".replace("#01", r"#\30 1"))
    assert see["href"] == "#" + solutions.select_one(".solution")["id"]
    assert solutions.select_one(".admonition-title a")["href"] == "#01_one--ex-a"


def test_an_explorer_shows_the_frame_with_which_its_page_opens(printed):
    figure = printed.select_one("figure.explorer")
    assert [image["alt"] for image in figure.select("img")] == ["shown"]
    assert figure.strong.get_text() == "Heading"
    assert "size: a & b" in figure.figcaption.get_text()
    assert not printed.find_all("script", type="application/vnd.jupyter.widget-view+json")


def test_what_cannot_be_printed_is_an_error(tmp_path):
    write_pages(tmp_path, WIDGETS | {"choice": ("PlayModel", {})})
    with pytest.raises(LookupError, match="PlayModel"):
        compose(tmp_path, ["01_one"], "t", "a", "v")
    with pytest.raises(LookupError, match="make book"):
        compose(tmp_path, ["03_three"], "t", "a", "v")
