"""One figure style for the whole book, and how a figure becomes a picture that speaks.

Sizes: a figure is ``WIDTH`` inches wide and a phone shows it about 350 pixels wide, so one inch becomes about 62 pixels
there and the smallest text (10.5 points) stays above 9 pixels. The paper of a figure is white in light and dark pages
alike: dark ink on white reads in both, and a transparent figure would not.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.6, 3.5  # inches
DPI = 120  # 672 pixels wide: sharp on a laptop, small enough to be repeated a hundred times in an explorer

# Okabe and Ito's colour-blind-safe colours, without yellow (it vanishes on white) and ordered so that neighbours differ
# in lightness, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
INK, PAPER, GRID = "#1f2328", "#ffffff", "#d9dce0"

STYLE = {
    "figure.figsize": (WIDTH, HEIGHT),
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so every machine draws the same letters
    "font.size": 11.5,
    "axes.titlesize": 12.5,
    "axes.labelsize": 11.5,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "figure.titlesize": 12.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "legend.frameon": False,
    "axes.titlelocation": "left",
}


def use_style() -> None:
    """Makes the book's style matplotlib's default in this process. ``new_figure`` does it for you."""
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update(STYLE)
    mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)


def new_figure(rows: int = 1, columns: int = 1, *, width: float = WIDTH, height: float | None = None, **subplots):
    """Returns ``(figure, axes)`` in the book's style; ``axes`` is one Axes, or an array of them, as in matplotlib.

    ``width`` and ``height`` are inches of the whole figure; a taller figure is given by default to more rows. Further
    names (``sharex``, ``gridspec_kw``, ...) go to ``Figure.subplots``. The figure is not known to pyplot: it is shown
    where :func:`figure` shows it and nowhere else, and needs no closing.
    """
    from matplotlib.figure import Figure

    use_style()
    fig = Figure(figsize=(width, HEIGHT * (1 + 0.75 * (rows - 1)) if height is None else height), layout="constrained")
    return fig, fig.subplots(rows, columns, **subplots)


def png(fig: "Figure", *, colours: int = 64, dpi: float = DPI) -> bytes:
    """A figure as PNG bytes with a palette of at most ``colours`` colours: about a third of the usual size.

    The same figure gives the same bytes: no date and no program name is written.

    Raises:
        ValueError: ``fig`` is no matplotlib figure, or ``colours`` is not in 2..256.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    if not isinstance(fig, Figure):
        raise ValueError(f"expected a matplotlib Figure, got {type(fig).__name__}")
    if not 2 <= colours <= 256:
        raise ValueError(f"colours must be from 2 to 256, got {colours}")
    raw, small = io.BytesIO(), io.BytesIO()
    fig.savefig(raw, format="png", dpi=dpi, metadata={"Software": None})
    raw.seek(0)
    with Image.open(raw) as image:
        # Maximum coverage keeps a thin line's colour; median cut would spend the palette on the paper's near-whites.
        few = image.convert("RGB").quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, format="PNG", optimize=True)
    return small.getvalue()


def encode(data: bytes) -> str:
    """Bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True)
class Picture:
    """A figure as it is shown: PNG bytes and the text that says what is to be seen (for those who do not see it)."""

    data: bytes
    alt: str
    size: tuple[int, int]  # pixels: width, height

    def __repr__(self) -> str:
        """Sizes only: a measured digit here would make a notebook's comparison depend on the machine's CPU."""
        return f"Picture({self.size[0]} x {self.size[1]} pixels)"

    def _repr_mimebundle_(self, include=None, exclude=None):
        # "alt" is where IPython's own Image and nbconvert look for it; the book's Sphinx extension does, too.
        meta = {"image/png": {"alt": self.alt}}
        return {"text/plain": repr(self), "image/png": encode(self.data)}, meta


def figure(fig: "Figure", alt: str, *, colours: int = 64, dpi: float = 144) -> Picture:
    """Shows a figure with alternative text: make this call the last line of a cell, or ``display`` what it returns.

    ``alt`` says what is to be seen: the axes, the shape, the finding.

    Raises:
        ValueError: there is no alternative text, or ``fig`` is no matplotlib figure.
    """
    if not alt.strip():
        raise ValueError("a figure needs alternative text: figure(fig, alt='what is to be seen')")
    data = png(fig, colours=colours, dpi=dpi)
    close(fig)
    return Picture(data, " ".join(alt.split()), picture_size(data))


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of PNG bytes."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.size


def close(fig: "Figure") -> None:
    """Forgets a figure that pyplot may hold, so that a notebook does not show it a second time."""
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(fig)


def band(ax, x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> None:
    """Draws an interval as a band, the book's one way of showing uncertainty along a line."""
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
