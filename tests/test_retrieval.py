"""TopK selects what it says; the moving threshold reaches its share, follows drift and recovers from jumps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2e_min import MovingThreshold, TopK


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.integers(1, 40), shape=st.sampled_from([(4, 5), (3, 2, 6), (1, 1)]))
def test_top_k_takes_the_k_largest_of_each_sample(seed, k, shape):
    phi = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    mask = TopK(k=k)(phi)
    assert mask.shape == phi.shape and mask.dtype == torch.bool
    for values, chosen in zip(phi.flatten(1), mask.flatten(1), strict=True):
        assert chosen.sum() == min(k, values.numel())
        if (~chosen).any():
            assert values[chosen].min() >= values[~chosen].max()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0.001, 1.0))
def test_top_share_takes_that_share_of_all_pairs(seed, share):
    phi = torch.rand(13, 11, generator=torch.Generator().manual_seed(seed))
    mask = TopK(share=share)(phi)
    assert mask.sum() == int(share * 143 * (1 + 1e-12))
    if 0 < mask.sum() < 143:
        assert phi[mask].min() >= phi[~mask].max()


def test_top_k_never_takes_nan_and_takes_infinity_first():
    phi = torch.tensor([[1.0, float("nan"), float("inf")]])
    assert TopK(k=1)(phi).tolist() == [[False, False, True]]
    assert TopK(k=3)(phi).tolist() == [[True, False, True]]


def test_a_share_is_not_rounded_down_by_a_hair():
    assert 0.29 * 100 < 29 and TopK(share=0.29)(torch.rand(10, 10)).sum() == 29


def test_one_crowded_batch_does_not_throw_the_threshold_far_out():
    threshold = MovingThreshold(0.001)
    before = threshold.log_tau.item()
    threshold(torch.full((100, 10), 1e9))  # a thousand times the wanted share
    assert 0 < threshold.log_tau.item() - before <= 0.3 * 2 * 1.001


def test_a_share_of_less_than_one_pair_takes_nothing():
    assert not TopK(share=0.02)(torch.rand(3, 4)).any()


def gaussian(g, n):
    return torch.randn(n, generator=g).square()


def heavy(g, n):
    """Squares of Student's t with three degrees of freedom: infinite kurtosis."""
    return gaussian(g, n) / (torch.randn(3, n, generator=g).square().sum(0) / 3)


def follow(sample, share, steps, start=1.0, drift=0.0, jump_at=None, seed=0):
    """Relative error of the share above tau, a value a step, while phi drifts or jumps ten times."""
    g = torch.Generator().manual_seed(seed)
    n = int(1000 / share)  # 1,000 pairs above tau in a batch: a layer of 2,048 x 4,096 has 8,400 at 0.1 %
    true = np.sort(sample(g, 2_000_000).numpy())
    right = np.quantile(true, 1 - share)
    threshold = MovingThreshold(share, start=right * start)
    errors, log_scale = [], 0.0
    for step in range(steps):
        log_scale += np.log1p(drift) + (np.log(10) if step == jump_at else 0)
        threshold(sample(g, n) * float(np.exp(log_scale)))
        tau = threshold.tau.item() / np.exp(log_scale)
        errors.append((1 - np.searchsorted(true, tau) / len(true)) / share - 1)
    return np.abs(errors)


def settled_after(errors, within=0.05):
    late = np.flatnonzero(errors > within)
    return 0 if len(late) == 0 else late[-1] + 1


SHARES = [pytest.param(0.001, marks=pytest.mark.slow), 0.02, 0.1]  # a small share needs large batches


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("start", [50.0, 1 / 50])
@pytest.mark.parametrize("sample", [gaussian, heavy])
def test_reaches_the_share_from_fifty_times_off_in_under_forty_steps(sample, share, start):
    assert settled_after(follow(sample, share, 40, start)[:39]) < 39


@pytest.mark.parametrize("share", SHARES)
def test_follows_a_drift_of_one_percent_a_step(share):
    errors = follow(heavy, share, 100, drift=0.01)[40:]
    assert errors.mean() < 0.05


@pytest.mark.parametrize("share", SHARES)
def test_recovers_from_a_jump_of_ten_times_within_twenty_steps(share):
    errors = follow(heavy, share, 100, jump_at=50)[50:]
    assert errors[0] > 0.5 and settled_after(errors[:30]) <= 20


def test_noise_from_batch_to_batch_does_not_bias_the_share_that_is_held():
    g = torch.Generator().manual_seed(0)
    threshold, shares = MovingThreshold(0.02), []
    for step in range(600):  # small batches that differ in richness, as text does
        mask = threshold(gaussian(g, 4000) * torch.randn(1, generator=g).mul(0.2).exp())
        shares.append(mask.double().mean().item()) if step >= 50 else None
    assert np.mean(shares) == pytest.approx(0.02, rel=0.05)


def test_judges_a_batch_before_it_moves():
    threshold = MovingThreshold(0.5, start=1.0)
    assert threshold(torch.tensor([0.5, 1.0, 2.0, 3.0])).tolist() == [False, True, True, True]
    assert threshold.tau > 1


def test_is_kept_in_float32_whatever_the_default():
    torch.set_default_dtype(torch.bfloat16)  # as when a large model is loaded
    try:
        assert {t.dtype for t in MovingThreshold(0.02).state_dict().values()} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


def test_stands_still_in_eval_mode_and_on_empty_batches():
    threshold = MovingThreshold(0.02)
    threshold(torch.empty(0, 5))
    threshold.eval()(torch.full((10, 10), 1e9))
    assert threshold.tau == MovingThreshold(0.02).tau


def test_a_batch_that_is_not_ok_changes_nothing():
    a, b = MovingThreshold(0.02), MovingThreshold(0.02)
    for share in (0.5, 0.0, 0.03):
        a.move(torch.tensor(share))
        b.move(torch.tensor(share), torch.tensor(True))
        b.move(torch.tensor(0.9), torch.tensor(False))
    assert all(torch.equal(x, y) for x, y in zip(a.buffers(), b.buffers(), strict=True))


def test_starts_at_the_gaussian_quantile():
    assert MovingThreshold(0.05).tau.item() == pytest.approx(1.959964**2, rel=1e-5)
    assert 0 < MovingThreshold(1.0).tau < 1e-5  # and above 0 where all is wanted


@pytest.mark.parametrize("fill", [0.0, float("inf"), float("nan")])
def test_degenerate_streams_leave_a_finite_threshold(fill):
    threshold = MovingThreshold(0.02)
    for _ in range(2000):
        threshold(torch.full((4, 4), fill))
    assert torch.isfinite(threshold.tau) and threshold.tau > 0


def test_state_comes_back():
    a, b = MovingThreshold(0.02), MovingThreshold(0.02)
    stream = [torch.rand(50, 40, generator=torch.Generator().manual_seed(i)) ** -1 for i in range(20)]
    for phi in stream[:10]:
        a(phi)
    b.load_state_dict(a.state_dict())
    for phi in stream[10:]:
        assert torch.equal(a(phi), b(phi))
    assert a.tau == b.tau and not list(a.parameters())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: TopK(), "exactly one"),
        (lambda: TopK(k=1, share=0.1), "exactly one"),
        (lambda: TopK(k=0), "k is 0"),
        (lambda: TopK(k=1.5), "k is 1.5"),
        (lambda: TopK(share=0), "share is 0"),
        (lambda: MovingThreshold(1.01), "share is 1.01"),
        (lambda: MovingThreshold(-0.1), "share is -0.1"),
        (lambda: MovingThreshold(0.02, start=0), "start is 0"),
        (lambda: MovingThreshold(0.02, start=float("inf")), "start is inf"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
