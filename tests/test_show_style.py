"""Figures: readable by everyone, on a phone, and the same bytes each time."""

import io

import numpy as np
import pytest
from PIL import Image

from l2e_min.show import COLOURS, figure, new_figure, png
from l2e_min.show.style import INK, PAPER, STYLE, WIDTH

PHONE = 350  # pixels left for a figure on a screen of 390


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def linear(colour) -> np.ndarray:
    """sRGB to linear light."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """Linear light to CIE L*a*b* (D65)."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light
    xyz = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-9, None))
    return np.array([116 * xyz[1] - 16, 500 * (xyz[0] - xyz[1]), 200 * (xyz[1] - xyz[2])])


EYES = {  # Machado, Oliveira, Fernandes 2009, full severity
    "usual": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "no blue": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


@pytest.mark.parametrize("eyes", EYES)
def test_first_five_colours_can_be_told_apart(eyes):
    seen = [lab(np.clip(EYES[eyes] @ linear(rgb(colour)), 0, 1)) for colour in COLOURS[:5]]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 10, distances


def test_ink_is_legible_on_paper():
    light = [linear(rgb(colour)) @ [0.2126, 0.7152, 0.0722] + 0.05 for colour in (PAPER, INK)]
    assert light[0] / light[1] > 7  # WCAG AAA


def test_smallest_text_on_a_phone():
    smallest = min(value for name, value in STYLE.items() if name.endswith("size") and isinstance(value, float))
    assert smallest / 72 * PHONE / WIDTH >= 9  # pixels


def test_png_is_small_stable_and_keeps_its_colours():
    def draw():
        fig, ax = new_figure()
        for row, colour in enumerate(COLOURS):
            ax.plot([0, 1], [row, row], color=colour)
        return fig

    first = png(draw())
    assert first == png(draw())
    with Image.open(io.BytesIO(first)) as image:
        assert image.mode == "P" and len(image.getcolors()) <= 64
        held = {colour for _, colour in image.convert("RGB").getcolors()}
    for colour in [*COLOURS, PAPER]:
        wanted = np.round(rgb(colour) * 255)
        assert min(np.abs(np.array(list(held)) - wanted).max(axis=1)) <= 6, f"{colour} was lost"
    full = io.BytesIO()
    draw().savefig(full, format="png")
    assert len(first) < len(full.getvalue())


def test_several_axes():
    fig, axes = new_figure(2, 2, sharex=True)
    assert axes.shape == (2, 2)
    assert fig.get_figheight() > new_figure()[0].get_figheight()


def test_figure_speaks():
    picture = figure(new_figure()[0], alt="Empty\n   axes.")
    data, meta = picture._repr_mimebundle_()
    assert meta["image/png"]["alt"] == "Empty axes."
    assert set(data) == {"text/plain", "image/png"}
    assert data["text/plain"] == repr(picture) == f"Picture({picture.size[0]} x {picture.size[1]} pixels)"


def test_a_pyplot_figure_is_not_shown_twice():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig = plt.figure()
    figure(fig, alt="nothing")
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: figure(new_figure()[0], alt="  "), "alternative text"),
        (lambda: png("no figure"), "got str"),
        (lambda: png(new_figure()[0], colours=1), "2 to 256, got 1"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
