"""The shared drawings draw what they are given."""

import numpy as np
import pytest

from l2e_min.lab.ledger.measurement import Measurement
from l2e_min.show import COLOURS, estimates, new_figure, on_and_off, over_scales, short, strip
from l2e_min.show.plots import OTHER, OWN


def test_strip_draws_every_text_once_in_the_row_of_its_feature():
    z, labels = np.arange(9.0), np.arange(9) % 3
    _, ax = new_figure()
    strip(ax, z, labels, ["a", "b", "c"], highlight=1)
    assert [line.get_color() for line in ax.lines] == [OTHER, OWN, OTHER]
    for feature, line in enumerate(ax.lines):
        x, y = line.get_data()
        assert list(x) == [feature, feature + 3, feature + 6] and np.abs(y - feature).max() <= 0.3
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]


def test_on_and_off_are_shares_of_their_groups_with_nothing_lost_at_the_ends():
    z, on = np.array([-50.0, 0.5, 0.6, 1.5, 99.0]), np.array([False, False, True, True, True])
    _, ax = new_figure()
    on_and_off(ax, z, on, np.array([0.0, 1.0, 2.0]), "own", "rest")
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    assert heights[0] == pytest.approx([100, 0]) and heights[1] == pytest.approx([100 / 3, 200 / 3])


def test_estimates_show_value_and_interval():
    _, ax = new_figure()
    estimates(ax, [0, 1], [Measurement(2, 1, 4, 1), Measurement(5, 5, 5, 1)], OWN)
    (line, _, (bars,)) = ax.containers[0].lines
    assert list(line.get_ydata()) == [2, 5]
    assert [(low, high) for (_, low), (_, high) in bars.get_segments()] == [(1, 4), (5, 5)]


def test_values_over_scales_are_thin_lines_and_means():
    _, ax = new_figure()
    points = {0: (np.array([5.0, 6.0]), np.array([1.0, 2.0])), 1: (np.array([5.0]), np.array([3.0]))}
    over_scales(ax, points, COLOURS[0], label="x")
    *thin, mean = ax.lines
    assert len(thin) == 2 and list(mean.get_ydata()) == [2.0, 2.0] and list(mean.get_xdata()) == [1e5, 1e6]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["100k", "1M"]


@pytest.mark.parametrize(
    ("number", "text"), [(91_008, "91k"), (1_055_488, "1.1M"), (6.9e9, "6.9B"), (5_263_616, "5.3M"), (12, "12")]
)
def test_short_numbers(number, text):
    assert short(number) == text
