"""Explorers: the frame under a control's position is the one drawn for that value, live and without a kernel."""

import base64
import itertools
import re

import ipywidgets as widgets
import numpy as np
import pytest

from l2e_min.show import Dropdown, Explorer, Slider, ToggleButtons, explorer, new_figure, png


def draw(share, kind="bar"):
    fig, ax = new_figure(width=2, height=1.5)
    (ax.barh if kind == "bar" else ax.bar)([0], [share])
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return fig


CONTROLS = {"share": [0.1, 0.5, 0.9], "kind": ["bar", "column"]}


@pytest.fixture(scope="module")
def shown() -> Explorer:
    return explorer(draw, CONTROLS, title="Shares", describe=lambda share, kind: f"a {kind} of {share}")


def links(of: Explorer) -> dict:
    """Stack -> the selector that moves it, as the browser will know it."""
    from ipywidgets.widgets.widget_link import Link

    names = {selector: name for name, selector in of.selectors.items()}
    found = {}
    for model in widgets.widget._instances.values() if hasattr(widgets, "widget") else ():
        if isinstance(model, Link) and model.source[0] in names and isinstance(model.target[0], widgets.Stack):
            assert (model.source[1], model.target[1]) == ("index", "selected_index")
            found[model.target[0]] = names[model.source[0]]
    return found


def picture(leaf) -> bytes:
    return base64.b64decode(re.search(r"base64,([^\"]+)", leaf.value)[1])


def test_every_position_shows_what_draw_gives(shown):
    moved_by = links(shown)
    for key in itertools.product(range(3), range(2)):
        index = dict(zip(CONTROLS, key, strict=True))
        node = shown.widget.children[-1]
        while isinstance(node, widgets.Stack):
            node = node.children[index[moved_by[node]]]
        values = {name: CONTROLS[name][i] for name, i in index.items()}
        assert picture(node) == png(draw(**values)) == shown.frame(**values).data
        assert f'alt="a {values["kind"]} of {values["share"]}"' in node.value


def test_a_page_without_a_kernel_holds_every_frame(shown):
    """The widget state that a page embeds, reached from the explorer's own model."""
    from ipywidgets.embed import embed_data

    state = embed_data(views=[shown.widget])["manager_state"]["state"]
    kept = [m["state"]["value"] for m in state.values() if m["model_name"] == "HTMLModel"]
    for frame in shown.frames.values():
        assert sum(base64.b64encode(frame.data).decode() in value for value in kept) == 1
    assert sum(m["model_name"] == "LinkModel" for m in state.values()) == 4  # kind: 3 inner stacks, share: the outer
    leaves = {m["state"]["layout"] for m in state.values() if m["model_name"] == "HTMLModel"}
    assert len(leaves) == 1, "frames must share one layout"


def test_repr_and_bundle(shown):
    assert repr(shown) == "Explorer('Shares', share: 3 values, kind: 2 values)"
    data, meta = shown._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == shown.frame(share=0.1, kind="bar").data
    assert meta["image/png"]["alt"] == "a bar of 0.1"
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == shown.widget.model_id


def test_controls_suit_their_values(shown):
    assert isinstance(shown.selectors["share"], widgets.SelectionSlider)
    assert isinstance(shown.selectors["kind"], widgets.ToggleButtons)
    assert shown.selectors["share"].options == ("0.1", "0.5", "0.9")
    many = explorer(lambda name: draw(len(name) / 9), {"name": ["a", "bb", "ccc", "dddd", "eeeee"]}, title="t")
    assert isinstance(many.selectors["name"], widgets.Dropdown)
    own = explorer(
        lambda a, b, c: draw(a),
        {
            "a": Slider(np.array([0.25, 0.5]), label=r"\(a\)", play=True),
            "b": Dropdown("xy"),
            "c": ToggleButtons([1, 2]),
        },
        title="t",
        start={"a": 0.5, "c": 2},
    )
    kinds = [type(own.selectors[name]).__name__ for name in "abc"]
    assert kinds == ["SelectionSlider", "Dropdown", "ToggleButtons"]
    assert own.selectors["a"].description == r"\(a\)"
    assert own.start == (1, 0, 1) and [own.selectors[name].index for name in "abc"] == [1, 0, 1]
    stack = own.widget.children[-1]
    assert stack.selected_index == 1 and stack.children[1].children[0].selected_index == 1
    plays = [w for w in own.widget.children[1].children if isinstance(w, widgets.Play)]
    assert len(plays) == 1 and (plays[0].min, plays[0].max, plays[0].value) == (0, 1, 1)


def test_text_below_and_default_description():
    shown = explorer(lambda k: (draw(k), f"k < {k}"), {"k": [0.1, 0.2]}, title="Title")
    frame = shown.frame(k=0.2)
    assert frame.alt == "Title; k = 0.2"
    assert "k &lt; 0.2" in frame.to_html(100)


@pytest.mark.parametrize("why", ["ipywidgets 7", "Colab"])
def test_live_fallback(monkeypatch, why):
    """Where frames cannot be linked in the browser, Python replaces the picture."""
    if why == "Colab":
        import sys

        monkeypatch.setitem(sys.modules, "google.colab", object())
    else:
        monkeypatch.delattr(widgets, "Stack")
    shown = explorer(draw, {**CONTROLS, "share": Slider(CONTROLS["share"], play=True)}, title="Shares")
    view = shown.widget.children[-1]
    assert isinstance(view, widgets.HTML)
    for share, kind in itertools.product(*CONTROLS.values()):
        shown.selectors["share"].value, shown.selectors["kind"].value = str(share), kind
        assert picture(view) == shown.frame(share=share, kind=kind).data
    play = shown.widget.children[1].children[1]
    play.value = 0
    assert shown.selectors["share"].index == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"controls": {}}, "at least one control"),
        ({"controls": {"share": [0.5]}}, "at least two values"),
        ({"controls": {"share": "abc"}}, "expected a sequence"),
        ({"controls": {"share": [0.1, 0.10000001]}}, "read alike"),
        ({"controls": {"share": range(151)}}, "151 frames"),
        ({"start": {"share": 0.7}}, "0.7 is none of"),
        ({"start": {"shape": 0.1}}, "expected values for"),
        ({"max_bytes": 100}, "max_bytes = 100 after 1 of 6 frames"),
        ({"describe": lambda **_: " "}, "no alternative text"),
        ({"draw": lambda **_: None}, "expected a matplotlib Figure, got NoneType"),
    ],
)
def test_bad_input_is_named(arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        explorer(**{"draw": draw, "controls": CONTROLS, "title": "t"} | arguments)


def test_a_missing_value_is_named(shown):
    with pytest.raises(ValueError, match=r"expected values for \['kind', 'share'\], got \['share'\]"):
        shown.frame(share=0.1)
