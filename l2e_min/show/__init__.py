"""Figures, explorers and tables of the book."""

from l2e_min.show.controls import Dropdown, Slider, ToggleButtons
from l2e_min.show.explorer import Explorer, explorer
from l2e_min.show.plots import estimates, on_and_off, over_scales, short, strip
from l2e_min.show.style import COLOURS, Picture, band, figure, new_figure, png

__all__ = [
    "COLOURS",
    "Dropdown",
    "Explorer",
    "Picture",
    "Slider",
    "ToggleButtons",
    "band",
    "estimates",
    "explorer",
    "figure",
    "new_figure",
    "on_and_off",
    "over_scales",
    "png",
    "short",
    "strip",
]
