"""Slopes over scale, matched loss and the killing curve, against numbers that can be worked out by hand."""

import numpy as np
import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.study import killing, trends
from l2e_min.lab.study.levels import SHARES

SIZES = {"32x2": 1e5, "64x3": 1e6, "128x4": 1e7}


def row(scale, seed, step, bits, **measures):
    return {"scale": scale, "seed": seed, "step": step, "parameters": SIZES[scale], "bits_per_byte": bits,
            "datasets": {"d": measures}}  # fmt: skip


def suite(value):
    """Nine runs of two rows; ``value(size, seed, step)`` is the measure "ks"."""
    return [
        row(scale, seed, step, 3.0 - step / 1000, ks=value(size, seed, step))
        for seed in range(3)
        for step in (0, 1000)
        for scale, size in SIZES.items()
    ]


KS = trends.of("d", "ks")


def test_a_slope_is_that_of_each_seed_and_its_interval_is_over_seeds():
    slopes = [-0.1, -0.2, -0.3]
    rows = suite(lambda size, seed, step: 1 + slopes[seed] * np.log10(size) + step)
    m = trends.slope_over_scale(rows, KS)
    assert m.value == pytest.approx(-0.2) and m.seeds == 3
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t of two degrees of freedom
    assert (m.low, m.high) == pytest.approx((-0.2 - half, -0.2 + half))


def test_only_the_end_of_training_counts_and_minus_one_is_the_end():
    rows = suite(lambda size, seed, step: step)
    assert {r["step"] for r in trends.final(rows)} == {1000}
    rows.append(row("32x2", 0, -1, 1.0, ks=7))
    ends = trends.final(rows)
    assert len(ends) == 9 and [r["step"] for r in ends if r["scale"] == "32x2" and r["seed"] == 0] == [-1]
    assert len(trends.at_step(rows, 0)) == 9


def test_rows_without_a_value_are_left_out_of_a_slope():
    rows = suite(lambda size, seed, step: None if size == 1e5 else 3 * np.log10(size) + 0.01 * seed)
    assert trends.slope_over_scale(rows, KS).value == pytest.approx(3)
    assert all(len(x) == 2 for x, _ in trends.points(trends.final(rows), KS).values())


def test_one_seed_gets_the_interval_of_its_line():
    y = {1e5: 1.0, 1e6: 2.0, 1e7: 2.5}
    m = trends.slope_over_scale([r for r in suite(lambda size, *_: y[size]) if r["seed"] == 0], KS)
    assert m.value == pytest.approx(0.75) and m.seeds == 1 and m.low < 0 < m.high


def test_too_few_models_are_named():
    rows = suite(lambda size, *_: size)
    with pytest.raises(UserError, match="at least two scales"):
        trends.slope_over_scale([r for r in rows if r["scale"] == "32x2"], KS)
    with pytest.raises(UserError, match="no interval"):
        trends.slope_over_scale([r for r in rows if r["scale"] != "32x2" and r["seed"] == 0], KS)


def run(*pairs):
    return [row("32x2", 0, i, bits, ks=ks) for i, (bits, ks) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("bits", "expected"), [(3.0, 0.1), (2.5, 0.2), (2.0, 0.3), (1.75, 0.25), (1.5, 0.2), (3.5, None), (1.0, None)]
)
def test_a_value_at_a_loss_lies_on_the_line_between_two_checkpoints(bits, expected):
    found = trends.at_loss(run((3.0, 0.1), (2.0, 0.3), (1.5, 0.2)), bits, KS)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_matched_loss_takes_every_scale_where_it_passes_the_smallest_ones_end():
    rows = []
    for seed in range(2):
        for scale, end in (("32x2", 2.0), ("64x3", 1.5), ("128x4", 1.0)):
            # K-S follows the loss exactly: at equal loss all scales agree, at the end they do not
            rows += [row(scale, seed, step, bits, ks=bits) for step, bits in ((0, 4.0), (10, 2.5), (20, end))]
    found = trends.points_at_matched_loss(rows, KS)
    assert all(np.allclose(y, 2.0) and len(y) == 3 for _, y in found.values())
    assert trends.slope(found).value == pytest.approx(0, abs=1e-12)
    assert trends.slope_over_scale(rows, KS).value == pytest.approx(-0.5)


def test_means_over_seeds_by_scale():
    found = trends.over_seeds(suite(lambda size, seed, step: seed), KS)
    assert list(found) == list(SIZES) and all(m.value == 1 and m.seeds == 6 for m in found.values())
    single = trends.over_seeds([row("32x2", 0, 1, 1.0, ks=5.0)], KS)["32x2"]
    assert (single.low, single.value, single.high, single.seeds) == (5, 5, 5, 1)


# ---- the killing curve -------------------------------------------------------------------------------------------


def u_shaped(centre, layers=4, shift=0.0):
    """FKR with its minimum at ``centre``; the two parts differ by ``shift``, layers not at all."""
    rates = 0.2 + 0.1 * np.abs(np.log2(np.array(SHARES) / centre))
    return row("64x3", 0, 1, 1.0, fkr=[[list(rates)] * layers, [list(rates + shift)] * layers])


def test_the_minimum_is_placed_on_one_part_and_measured_on_the_other():
    left, right, place = killing.arms(u_shaped(SHARES[10], shift=0.05), "d")
    at = np.log2(SHARES[10] / 0.02)
    assert place == pytest.approx(at)
    assert left == pytest.approx(0.1 * np.log2(SHARES[10] / 0.001), rel=1e-3)
    assert right == pytest.approx(0.1 * np.log2(0.5 / SHARES[10]), rel=0.02)


def test_a_minimum_at_the_edge_has_no_left_arm():
    left, right, place = killing.arms(u_shaped(0.0001), "d")
    assert left == 0 and right > 0 and place == pytest.approx(np.log2(0.001 / 0.02))


def test_levels_of_less_than_a_pair_are_no_minimum():
    flat = u_shaped(0.02)
    flat["datasets"]["d"]["fkr"][0] = [[None, None, *r[2:]] for r in flat["datasets"]["d"]["fkr"][0]]
    assert killing.place_of_minimum(flat, "d") == pytest.approx(0.02, rel=0.2)


def test_the_middle_two_layers_against_the_rest():
    rates = [[[0.1 * layer] * len(SHARES) for layer in layers] for layers in ((1, 5, 6, 2), (0, 1), (1, 5, 6, 2, 3))]
    four, two, five = (row("64x3", 0, 1, 1.0, fkr=[r, r]) for r in rates)
    assert killing.middle_minus_rest(four, "d") == pytest.approx(0.55 - 0.15)
    assert killing.middle_minus_rest(two, "d") is None
    assert killing.middle_minus_rest(five, "d") == pytest.approx(0.55 - 0.2), "as sites='middle-2' takes them"


def test_the_worst_scale_is_the_one_that_decides():
    rows = []
    for scale, centre in (("32x2", SHARES[10]), ("64x3", SHARES[16])):
        for seed in range(3):
            u = u_shaped(centre)
            rows.append({**u, "scale": scale, "seed": seed, "parameters": SIZES[scale]})
    worst = killing.worst_arms(rows, "d")
    assert worst["minimum"].value == pytest.approx(np.log2(SHARES[16] / 0.02)) and worst["minimum"].seeds == 3
    assert worst["left_arm"].value == pytest.approx(0.1 * np.log2(SHARES[10] / 0.001), rel=1e-3)
    assert worst["right_arm"].value == pytest.approx(0.1 * np.log2(0.5 / SHARES[16]), rel=0.05)
