"""Held-out selectivity on planted truth: real features are found, permuted labels find nothing."""

import numpy as np
import pytest
import torch
from reference import feature_scores as slow_scores

from l2e_min.lab import selectivity
from l2e_min.lab.errors import UserError
from l2e_min.lab.planted import plant
from l2e_min.lab.probing import split_rows


@pytest.fixture(scope="module")
def planted():
    return plant(n_inputs=800, n_features=8, per_kind=12, height=4.0, seed=3)


@pytest.fixture(scope="module")
def halves(planted):
    chosen, held = split_rows(planted.labels.numpy(), 0.5, 0)
    alive = ~planted.where("dead")
    return selectivity.split_phi(planted.z[:, alive], planted.labels, np.flatnonzero(chosen), np.flatnonzero(held))


def test_moments_come_from_the_choosing_half_alone(planted, halves):
    np.testing.assert_allclose(halves.chosen_phi.mean(0).numpy(), 399 / 400, rtol=1e-10)
    assert not np.allclose(halves.held_phi.mean(0).numpy(), 399 / 400, rtol=1e-3)
    assert len(halves.held_phi) == 400


def test_on_and_off_by_hand(halves):
    star = halves.star()
    on, off = halves.on_and_off()
    phi, labels = halves.held_phi.numpy(), halves.held_labels.numpy()
    scores = slow_scores(phi, labels, 8)
    for j in range(phi.shape[1]):
        assert on[j] == pytest.approx(scores[star[j], j], rel=1e-10)
        assert off[j] == pytest.approx(phi[labels != star[j].item(), j].mean(), rel=1e-10)


def test_weights_count_rows(halves):
    weights = torch.ones(2, 400, dtype=torch.float64)
    weights[1, 7] = 2
    on, off = halves.resampled(weights)
    for row, rows in enumerate((torch.arange(400), torch.cat([torch.arange(400), torch.tensor([7])]))):
        want = selectivity.on_and_off(halves.held_phi[rows], halves.held_labels[rows], halves.star())
        torch.testing.assert_close((on[row], off[row]), want)


def test_bootstrap_keeps_the_size_of_every_label(halves):
    weights = selectivity.resampled_weights(halves.held_labels, 20, 0)
    for label in range(8):
        assert (weights[:, halves.held_labels == label].sum(1) == 50).all()


def test_planted_neurons_exceed_the_null_and_noise_does_not(halves):
    mono, noise = torch.arange(12), torch.arange(24, 36)
    excess, ratio, null = selectivity.excess_over_null(halves, mono, 100, 100, 0)
    assert excess.low > 1 and ratio.value > 5 and len(null) == 100
    excess, _, _ = selectivity.excess_over_null(halves, noise, 100, 100, 0)
    assert excess.low < 0


def test_gap_of_planted_neurons_to_noise(halves):
    value, draws = selectivity.gap_to_random(halves, torch.arange(12), torch.arange(24, 36), 100, 0)
    assert np.quantile(draws, 0.025) > 1 and draws.min() < value < draws.max()
    value, draws = selectivity.gap_to_random(halves, torch.arange(24, 30), torch.arange(30, 36), 100, 0)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert low < 0 < high


def test_the_comparison_in_sample_always_holds_and_the_null_is_calibrated(planted, halves):
    alive = ~planted.where("dead")
    shares = selectivity.shares_above(planted.z[:, alive], planted.labels, halves, 100, 50, 0)
    assert shares["share_true"].value == 1 and shares["share_permuted"].value == 1
    assert 0.03 < shares["beyond_null_permuted"].value < 0.08  # one in twenty
    # The 12 monosemantic neurons of 48 lie beyond it, and some polysemantic ones.
    assert 0.25 <= shares["beyond_null_true"].value < 0.65


def test_constant_neurons_are_refused(planted):
    with pytest.raises(UserError, match="12 neurons are constant"):
        selectivity.split_phi(planted.z, planted.labels, np.arange(400), np.arange(400, 800))
