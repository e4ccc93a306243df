"""FKR from counts in bins, against FKR from the pairs themselves."""

import numpy as np
import pytest
import torch

from l2e_min import false_killing_rate, monosemantic_scale, relative_feature
from l2e_min.lab.planted import plant
from l2e_min.lab.study.levels import BINS_PER_OCTAVE, HIGH, LOW, SHARES, LevelCounts

FEATURES, LAYERS, NEURONS = 6, 3, 50
BOUND = {50: 0.025, 500: 0.005}
"""Pairs above the threshold -> how far the two may lie apart."""


def gelu_like(n: int = 300, seed: int = 0):
    """(phi (n, layers, neurons) float64, labels (n,), star (layers * neurons,)): l* by one half, phi of the other.

    Mostly silent neurons with skewed values, some that answer to a feature: phi runs over nine orders of magnitude.
    """
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, FEATURES, (2 * n,), generator=g)
    z = torch.randn(2 * n, LAYERS * NEURONS, generator=g, dtype=torch.float64)
    z = torch.nn.functional.gelu(2 * z - 1) + 0.01 * z
    own = torch.arange(LAYERS * NEURONS) % (2 * FEATURES)  # half of them answer to nothing
    z += 3 * torch.rand(len(own), generator=g) * (labels[:, None] == own)
    return halves(z, labels, n)


def planted(n: int = 300, seed: int = 0):
    """The same on planted neurons of every kind but dead ones."""
    there = plant(n_inputs=2 * n, n_features=FEATURES, per_kind=LAYERS * NEURONS // 3, seed=seed)
    keep = torch.tensor([kind in ("monosemantic", "noise", "spike") for kind in there.kinds])
    z = there.z[:, keep][:, torch.randperm(LAYERS * NEURONS, generator=torch.Generator().manual_seed(seed))]
    return halves(z, there.labels, n)


def halves(z, labels, n):
    mean, var = z[:n].mean(0), z[:n].var(0)
    star = relative_feature(monosemantic_scale(z[:n], mean, var), labels[:n])
    return monosemantic_scale(z[n:], mean, var).unflatten(1, (LAYERS, NEURONS)), labels[n:], star


def counted(phi, labels, star, sizes=(), part=None) -> LevelCounts:
    """Pairs put into bins, batch by batch."""
    counts = LevelCounts(1 if part is None else 2, phi.shape[1])
    part = torch.zeros(len(phi), dtype=torch.long) if part is None else part
    own = (labels[:, None] == star).view(phi.shape)
    sizes = [*sizes, len(phi) - sum(sizes)]
    for rows in torch.arange(len(phi)).split(sizes):
        counts.add(phi[rows], own[rows], part[rows])
    return counts


def exact(phi, labels, star, shares=SHARES) -> np.ndarray:
    """(layers, S) by the pairs."""
    layers = star.view(phi.shape[1:])
    return np.array(
        [[false_killing_rate(phi[:, k], labels, s, star=layers[k]) for s in shares] for k in range(len(layers))]
    )


@pytest.mark.parametrize("make", [gelu_like, planted])
@pytest.mark.parametrize("seed", range(3))
def test_fkr_is_that_of_the_pairs(make, seed):
    phi, labels, star = make(seed=seed)
    rates = counted(phi, labels, star).fkr()
    assert rates.shape == (1, LAYERS, len(SHARES))
    truth, pairs = exact(phi, labels, star), np.array(SHARES) * phi[:, 0].numel()
    for enough, bound in BOUND.items():
        assert (pairs >= enough).sum() >= 12
        assert np.abs(rates[0] - truth)[:, pairs >= enough].max() <= bound
    assert np.ptp(truth[:, pairs >= 50]) > 0.2, "levels that differ"


@pytest.mark.parametrize("make", [gelu_like, planted])
def test_the_error_is_at_most_a_pair_and_a_quarter_of_a_bin(make):
    """Of K selected pairs: one, because a share is seldom a whole number, and m/4 of the m in the last bin."""
    phi, labels, star = make()
    counts = counted(phi, labels, star)
    rates, truth = counts.fkr()[0], exact(phi, labels, star)
    from_top = counts.counts[0].sum(1).flip(-1)  # (layers, bins)
    seen = 0
    for layer, column in np.ndindex(rates.shape):
        wanted = SHARES[column] * phi[:, 0].numel()
        if wanted >= 1:
            bin_ = int((from_top[layer].cumsum(0) < int(wanted)).sum())
            m = max(from_top[layer, bin_ : bin_ + 2].tolist())  # the share may end in the next one
            assert abs(rates[layer, column] - truth[layer, column]) <= (1 + m / 4) / int(wanted)
            seen += 1
    assert seen >= 60


def test_all_pairs_are_exact_and_less_than_one_is_undefined():
    phi, labels, star = gelu_like()
    n_pairs = phi[:, 0].numel()
    shares = [0.5 / n_pairs, 0.999 / n_pairs, 1 / n_pairs, 1.0]
    rates = counted(phi, labels, star).fkr(shares)[0]
    assert np.isnan(rates[:, :2]).all() and np.isfinite(rates[:, 2:]).all()
    off = (labels[:, None] != star).view(phi.shape).double().mean((0, 2)).numpy()
    np.testing.assert_allclose(rates[:, 3], off, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(exact(phi, labels, star, shares)), np.isnan(rates))


def test_a_few_pairs_are_counted_one_by_one():
    """Six pairs in bins of their own: every whole number of pairs is exact."""
    phi = torch.tensor([[[8.0, 4.0]], [[2.0, 1.0]], [[0.5, 0.25]]])  # (3, 1, 2)
    labels, star = torch.tensor([0, 1, 0]), torch.tensor([0, 1])
    # from the top: on, off, off, on, on, off
    rates = counted(phi, labels, star).fkr([k / 6 for k in range(1, 7)])[0, 0]
    np.testing.assert_allclose(rates, [0, 1 / 2, 2 / 3, 2 / 4, 2 / 5, 3 / 6], atol=1e-12)
    between = counted(phi, labels, star).fkr([1.5 / 6])[0, 0]
    np.testing.assert_allclose(between, 0.5 / 1.5)  # half of the second bin


def test_zero_and_infinity_are_the_ends():
    phi, labels, star = gelu_like()
    n_pairs = phi[:, 0].numel()
    phi[torch.rand(phi.shape) < 0.3] = 0.0
    phi[:4, :, :3] = torch.inf
    counts = counted(phi, labels, star)
    assert counts.counts.sum() == phi.numel()
    assert (counts.counts[0, :, :, -1].sum(1) == 12).all()
    rates, truth = counts.fkr()[0], exact(phi, labels, star)
    above = (phi > 0).sum((0, 2)).min().item() / n_pairs  # below that, pairs tie at 0
    inside = (np.array(SHARES) * n_pairs >= 50) & (np.array(SHARES) <= above)
    assert inside.sum() >= 12 and np.abs(rates - truth)[:, inside].max() <= BOUND[50]
    np.testing.assert_allclose(rates[:, -1], truth[:, -1], rtol=1e-12)


def test_tiny_phi_counts_as_zero_and_huge_phi_as_the_top():
    counts = LevelCounts(1, 1)
    edges = torch.tensor([0.0, 2.0**LOW / 1e6, 2.0**LOW, 2.0**HIGH * 0.999, 2.0**HIGH, 1e300], dtype=torch.float64)
    counts.add(edges[:, None, None], torch.ones(6, 1, 1, dtype=torch.bool), torch.zeros(6, dtype=torch.long))
    assert counts.counts[0, 0, 1, 0] == 3 and counts.counts[0, 0, 1, -1] == 3 and counts.counts.sum() == 6
    for end in (0.0, torch.inf):  # all in one bin: on and off in proportion at every level
        counts = LevelCounts(1, 1)
        own = torch.tensor([True, False, False, False]).view(4, 1, 1)
        counts.add(torch.full((4, 1, 1), end), own, torch.zeros(4, dtype=torch.long))
        np.testing.assert_allclose(counts.fkr([0.25, 0.3, 1.0]), 0.75)


def test_bins_are_narrow():
    """Two values of one bin differ by less than 2.2 %."""
    counts, phi = LevelCounts(1, 1), torch.tensor([1.0, 2 ** (0.99 / BINS_PER_OCTAVE), 2 ** (1.01 / BINS_PER_OCTAVE)])
    counts.add(phi[:, None, None], torch.ones(3, 1, 1, dtype=torch.bool), torch.zeros(3, dtype=torch.long))
    assert sorted(counts.counts[counts.counts > 0].tolist()) == [1, 2]
    assert 2 ** (1 / BINS_PER_OCTAVE) < 1.022


def test_counts_add_over_batches_and_parts():
    phi, labels, star = gelu_like()
    whole = counted(phi, labels, star)
    for sizes in ([1] * 40, [299], [100, 100]):
        assert torch.equal(counted(phi, labels, star, sizes).counts, whole.counts)
    part = (torch.rand(len(phi), generator=torch.Generator().manual_seed(1)) < 0.3).long()
    apart = counted(phi, labels, star, [64] * 4, part)
    assert torch.equal(apart.together().counts, whole.counts)
    np.testing.assert_array_equal(apart.together().fkr(), whole.fkr())
    for number in (0, 1):
        rows = part == number
        assert torch.equal(apart.counts[number], counted(phi[rows], labels[rows], star).counts[0])


def test_a_part_without_rows_is_undefined():
    phi, labels, star = gelu_like(n=20)
    rates = counted(phi, labels, star, part=torch.ones(20, dtype=torch.long)).fkr()
    assert np.isnan(rates[0]).all() and np.isfinite(rates[1, :, -1]).all()


def test_the_shares_run_from_a_thousandth_to_all_eight_a_decade():
    assert SHARES[0] == 0.001 and SHARES[-1] == 1.0 and len(SHARES) == 25
    steps = np.diff(np.log10(SHARES))
    assert abs(steps - 1 / 8).max() < 0.002
