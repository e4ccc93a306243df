"""The controls of an explorer: what a reader moves. Each stands for a list of values and speaks of the chosen index."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Number


def plain(value) -> str:
    """A value as a reader sees it: numbers short, everything else as it is."""
    if isinstance(value, Number) and not isinstance(value, bool):
        return f"{value:g}"
    return str(value)


@dataclass(frozen=True)
class Control:
    """Values to choose from.

    ``label`` is what stands beside the control (maths in ``\\( \\)`` allowed; default: its name), ``form`` how a value
    is written (default: numbers short).
    """

    values: Sequence
    label: str | None = None
    form: Callable[[object], str] = plain

    def options(self) -> list[str]:
        """The values as a reader sees them.

        Raises:
            ValueError: fewer than two values, or two values that read alike.
        """
        texts = [self.form(value) for value in self.values]
        if len(texts) < 2:
            raise ValueError(f"a control needs at least two values, got {list(self.values)!r}")
        if len(set(texts)) < len(texts):
            raise ValueError(f"two values of a control read alike: {texts!r}; give form= to tell them apart")
        return texts

    def make(self, name: str, index: int, widgets):
        """Returns ``(selector, shown)``: the widget whose ``index`` is the choice, and what is put on the page."""
        raise NotImplementedError

    def _common(self, name: str, index: int, widgets) -> dict:
        label = name.replace("_", " ") if self.label is None else self.label
        return {
            "options": self.options(),
            "index": index,
            "description": label,
            "style": {"description_width": "initial"},
            "layout": widgets.Layout(width="100%", max_width="34em"),
        }


@dataclass(frozen=True)
class Slider(Control):
    """A slider over ordered values, with the chosen one written beside it; ``play=True`` adds a play button."""

    play: bool = False

    def make(self, name, index, widgets):
        slider = widgets.SelectionSlider(**self._common(name, index, widgets))
        if not self.play:
            return slider, slider
        play = widgets.Play(value=index, min=0, max=len(self.values) - 1, step=1, interval=400)
        link = widgets.jslink if has_static_pages(widgets) else widgets.link
        link((play, "value"), (slider, "index"))
        return slider, widgets.VBox([slider, play])


@dataclass(frozen=True)
class Dropdown(Control):
    """A list that drops down: for many names."""

    def make(self, name, index, widgets):
        selector = widgets.Dropdown(**self._common(name, index, widgets))
        return selector, selector


@dataclass(frozen=True)
class ToggleButtons(Control):
    """One button for each value: for a few short names."""

    def make(self, name, index, widgets):
        buttons = widgets.ToggleButtons(**self._common(name, index, widgets))
        buttons.style.button_width = "auto"
        return buttons, buttons


def as_control(values) -> Control:
    """A plain sequence becomes the control that suits it: buttons for up to four short names, a list for more names,
    a slider for anything else.

    Raises:
        ValueError: ``values`` is a string or no sequence.
    """
    if isinstance(values, Control):
        return values
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise ValueError(f"expected a sequence of values or a Slider, Dropdown or ToggleButtons, got {values!r}")
    values = [value.item() if hasattr(value, "item") else value for value in values]
    if not all(isinstance(value, str) for value in values):
        return Slider(values)
    return ToggleButtons(values) if len(values) <= 4 and sum(map(len, values)) <= 40 else Dropdown(values)


def has_static_pages(widgets) -> bool:
    """Whether frames can be stacked and linked without a kernel: not with ipywidgets 7 (no ``Stack``), and not in
    Google Colab, where a link made in the browser is known to fail."""
    import sys

    return hasattr(widgets, "Stack") and "google.colab" not in sys.modules
