"""Explorers: a figure that a reader moves. One call, live in a notebook and in the published page with no kernel.

A published page has no Python, so every figure is drawn beforehand. The frames are leaves of nested stacks, one level
for each control, and each control is linked to its level *in the browser*: this is all a static page needs.
"""

import html
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from l2e_min.show.controls import Control, as_control, has_static_pages
from l2e_min.show.style import close, encode, picture_size, png

MAX_FRAMES = 150  # 0.1 s to draw each, and about 300 KB of page for each hundred
MAX_BYTES = 1_000_000  # a page must still open on a phone


@dataclass(frozen=True)
class Frame:
    """One drawn figure of an explorer: PNG bytes, alternative text, and a line of text below (or none)."""

    data: bytes
    alt: str
    text: str = ""

    def to_html(self, width: int) -> str:
        """The picture as HTML, ``width`` pixels wide or as wide as the page allows."""
        picture = (
            f'<img src="data:image/png;base64,{encode(self.data)}" alt="{html.escape(self.alt)}" '
            f'style="width:{width}px;max-width:100%;height:auto">'
        )
        return picture + (f'<p style="line-height:1.4;margin:0">{html.escape(self.text)}</p>' if self.text else "")


class Explorer:
    """What :func:`explorer` returns: shown by naming it in the last line of a cell.

    Attributes:
        controls: name of a control -> :class:`Control`.
        frames: one :class:`Frame` for each combination of values, keyed by the tuple of indices of the values.
        selectors: name of a control -> the ipywidgets selector whose ``index`` is the choice.
        widget: the widget that is shown.
    """

    def __init__(self, title: str, controls: dict[str, Control], frames: dict[tuple, Frame], start: tuple, widgets):
        self.title, self.controls, self.frames, self.start = title, controls, frames, start
        self.selectors, shown = {}, []
        for (name, control), index in zip(controls.items(), start, strict=True):
            self.selectors[name], item = control.make(name, index, widgets)
            shown.append(item)
        view = _stacked(self, widgets) if has_static_pages(widgets) else _observed(self, widgets)
        heading = widgets.HTMLMath(f'<strong style="line-height:1.4">{html.escape(title)}</strong>')
        self.widget = widgets.VBox([heading, *shown, view], layout=widgets.Layout(max_width="100%"))

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures."""
        return sum(len(frame.data) for frame in self.frames.values())

    def frame(self, **values) -> Frame:
        """The frame drawn for these values, one for every control.

        Raises:
            ValueError: a value that the explorer does not hold.
        """
        return self.frames[_indices(self.controls, values)]

    def __repr__(self) -> str:
        parts = [f"{name}: {len(control.values)} values" for name, control in self.controls.items()]
        return f"Explorer({self.title!r}, {', '.join(parts)})"

    def _repr_mimebundle_(self, include=None, exclude=None):
        first = self.frames[self.start]
        data = {
            "text/plain": repr(self),
            "image/png": encode(first.data),  # what shows where there are no widgets, as on GitHub
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.widget.model_id,
            },
        }
        return data, {"image/png": {"alt": first.alt}}


def explorer(
    draw: Callable,
    controls: Mapping[str, Control],
    *,
    title: str,
    describe: Callable[..., str] | None = None,
    start: Mapping | None = None,
    max_frames: int = MAX_FRAMES,
    max_bytes: int = MAX_BYTES,
) -> Explorer:
    """Draws one figure for every combination of values and puts sliders, lists or buttons over them.

    Args:
        draw: ``draw(**values)`` returns a matplotlib figure, or ``(figure, text)`` with a line to stand below it.
        controls: name of an argument of ``draw`` -> its values. Numbers get a slider, names get buttons or a list; a
            ``Slider``, ``Dropdown`` or ``ToggleButtons`` chooses for itself. The last one changes fastest.
        title: stands above (maths in ``\\( \\)`` allowed).
        describe: ``describe(**values)`` returns the alternative text of that frame.
        start: the values shown first, for some or all controls; the first ones by default.
        max_frames, max_bytes: guards for the reader's page; raise them knowingly.

    Raises:
        ValueError: no controls, too many or too heavy frames, an unknown start value, or ``draw`` returns no figure.
    """
    import ipywidgets as widgets

    chosen = {name: as_control(values) for name, values in controls.items()}
    if not chosen:
        raise ValueError("an explorer needs at least one control")
    lengths = [len(control.options()) for control in chosen.values()]
    count = 1
    for length in lengths:
        count *= length
    if count > max_frames:
        raise ValueError(f"{count} frames ({' x '.join(map(str, lengths))}) are more than max_frames = {max_frames}")
    first = _indices(chosen, {name: control.values[0] for name, control in chosen.items()} | dict(start or {}))
    frames, used = {}, 0
    for key in itertools.product(*map(range, lengths)):
        values = {name: control.values[index] for (name, control), index in zip(chosen.items(), key, strict=True)}
        frames[key] = _draw_frame(draw, values, chosen, title, describe)
        used += len(frames[key].data)
        if used > max_bytes:
            raise ValueError(
                f"the pictures pass max_bytes = {max_bytes} after {len(frames)} of {count} frames; "
                "draw fewer or simpler ones"
            )
    return Explorer(title, chosen, frames, first, widgets)


def _draw_frame(draw, values, controls, title, describe) -> Frame:
    drawn = draw(**values)
    fig, text = drawn if isinstance(drawn, tuple) else (drawn, "")
    data = png(fig)
    close(fig)
    if describe is None:
        alt = f"{title}; " + ", ".join(f"{name} = {controls[name].form(value)}" for name, value in values.items())
    else:
        alt = describe(**values)
    if not alt.strip():
        raise ValueError(f"describe() gave no alternative text for {values!r}")
    return Frame(data, " ".join(alt.split()), text)


def _indices(controls: dict[str, Control], values: Mapping) -> tuple[int, ...]:
    """The tuple of indices of these values."""
    if set(values) != set(controls):
        raise ValueError(f"expected values for {sorted(controls)}, got {sorted(values)}")
    found = []
    for name, control in controls.items():
        try:
            found.append(list(control.values).index(values[name]))
        except ValueError:
            raise ValueError(f"{name} = {values[name]!r} is none of {list(control.values)!r}") from None
    return tuple(found)


def _stacked(shown: Explorer, widgets):
    """Nested stacks, each level linked in the browser to its control."""
    width = picture_size(shown.frames[shown.start].data)[0]
    # One layout and one style for all: a page then holds them once.
    shared = {"layout": widgets.Layout(width="auto", max_width="100%", overflow="hidden")}
    selectors = list(shown.selectors.values())

    def build(key: tuple):
        if len(key) == len(selectors):
            leaf = widgets.HTML(shown.frames[key].to_html(width), **shared)
            shared["style"] = leaf.style
            return leaf
        selector = selectors[len(key)]
        children = [build((*key, index)) for index in range(len(selector.options))]
        stack = widgets.Stack(children, selected_index=selector.index, layout=shared["layout"])
        widgets.jslink((selector, "index"), (stack, "selected_index"))
        return stack

    return build(())


def _observed(shown: Explorer, widgets):
    """One picture that Python replaces: for ipywidgets 7 and Colab, live only."""
    width = picture_size(shown.frames[shown.start].data)[0]
    view = widgets.HTML(shown.frames[shown.start].to_html(width))

    def update(_change=None):
        key = tuple(selector.index for selector in shown.selectors.values())
        view.value = shown.frames[key].to_html(width)

    for selector in shown.selectors.values():
        selector.observe(update, names="index")
    return view
