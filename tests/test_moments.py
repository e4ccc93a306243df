"""Lemma 3.2 against a slow independent version, and the numbers that break naive running moments."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import lemma_3_2, two_pass_moments

from l2e_min import RunningMoments


def moments_of(z, splits=(), **kinds):
    m = RunningMoments(z.shape[-1], **{"dtype": torch.float64, **kinds})
    for part in torch.tensor_split(z, list(splits)):
        m.update(part)
    return m


def close(m, mean, var, rtol):
    np.testing.assert_allclose(m.mean.numpy(), mean, rtol=rtol, atol=1e-300)
    np.testing.assert_allclose(m.var.numpy(), var, rtol=rtol, atol=1e-300)


def test_one_step_is_lemma_3_2():
    rng = np.random.default_rng(0)
    old, new = rng.normal(3, 2, (40, 5)), rng.normal(-1, 4, (17, 5))
    m = moments_of(torch.tensor(np.concatenate([old, new])), splits=[40])
    mu, v = two_pass_moments(old)
    want = [lemma_3_2(40, mu[j], v[j], list(new[:, j])) for j in range(5)]
    close(m, *zip(*want, strict=True), rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_any_split_into_batches_gives_the_two_pass_moments(seed, cuts, offset, scale):
    z = offset + scale * np.random.default_rng(seed).standard_t(4, (60, 3))  # empty batches and batches of one included
    m = moments_of(torch.tensor(z), splits=sorted(cuts))
    close(m, *two_pass_moments(z), rtol=1e-6)  # z itself is rounded to 1e-10 where the offset is 1e6
    assert m.count == 60


def test_large_mean_tiny_variance_in_float64():
    z = 1e6 + 1e-3 * np.random.default_rng(1).standard_normal((5000, 4))
    m = moments_of(torch.tensor(z), splits=range(7, 5000, 613))
    close(m, *two_pass_moments(z), rtol=1e-6)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_activations_are_summed_in_float32(kind):
    z = (5 + 0.01 * torch.randn(4096, 8, generator=torch.Generator().manual_seed(0))).to(kind)
    m = moments_of(z, splits=range(256, 4096, 256), dtype=torch.float32)
    mean, var = two_pass_moments(z.double().numpy())
    close(m, mean, var, rtol=1e-4)  # of the values as given, however coarse they are


def test_autocast_does_not_touch_the_moments():
    z = torch.randn(512, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = moments_of(z, dtype=torch.float32)
    assert torch.equal(inside.var, moments_of(z, dtype=torch.float32).var)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_merging_is_associative_and_free_of_order(seed, sizes):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.normal(0, 10), 1, (size, 2)) for size in sizes]
    a, b, c = ([moments_of(torch.tensor(p)) for p in parts] for _ in range(3))
    a[0].merge(a[1])
    a[0].merge(a[2])  # (0 + 1) + 2
    b[1].merge(b[2])
    b[0].merge(b[1])  # 0 + (1 + 2)
    c[2].merge(c[1])
    c[2].merge(c[0])  # 2 + 1 + 0
    everything = np.concatenate(parts)
    for merged in (a[0], b[0], c[2]):
        assert merged.count == len(everything)
        if len(everything) > 1:
            close(merged, *two_pass_moments(everything), rtol=1e-9)


def test_merging_adds_the_batches_taken_in_and_left_out():
    a, b = moments_of(torch.randn(20, 3), splits=[5]), moments_of(torch.randn(9, 3), splits=[2, 4])
    b.update(torch.full((2, 3), torch.nan))
    a.merge(b)
    assert a.batches == 5 and a.skipped == 1


def test_merging_moments_of_another_precision_keeps_ones_own():
    z = torch.randn(30, 2, dtype=torch.float64)
    a, b = moments_of(z[:10], dtype=torch.float32), moments_of(z[10:])
    a.merge(b)
    assert a.mean.dtype == a.var.dtype == torch.float32
    close(a, *two_pass_moments(z.numpy()), rtol=1e-5)


def test_an_outlier_at_the_head_of_every_batch_costs_no_digits():
    """Language models keep such values at their first token; as the centre of a batch one would drown the rest."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1, (5 * 4096, 2)).astype(np.float32)
    z[4096::4096] = 3000
    m = moments_of(torch.tensor(z), splits=range(4096, len(z), 4096), dtype=torch.float32)
    close(m, *two_pass_moments(z), rtol=1e-4)


def test_counts_past_two_to_the_31():
    z = torch.tensor(np.random.default_rng(0).normal(2, 3, (1000, 2)))
    a, b = moments_of(z[:400]), moments_of(z[400:])
    a.count.fill_(2**33)
    b.count.fill_(2**34)
    m, n = float(2**33), float(2**34)
    mean = (m * a.mean + n * b.mean) / (m + n)
    var = (m * n / (m + n) * (a.mean - b.mean) ** 2 + (n - 1) * b.var + (m - 1) * a.var) / (m + n - 1)
    a.merge(b)
    assert a.count == 2**33 + 2**34
    close(a, mean.numpy(), var.numpy(), rtol=1e-12)


def test_constant_neuron_first_batch_batch_of_one_and_empty_batch():
    m = RunningMoments(2, dtype=torch.float64)
    m.update(torch.empty(0, 2))
    assert m.count == 0 and m.batches == 0 and m.var.isnan().all()
    m.update(torch.tensor([[4.0, 1.0]]))  # one input: a mean, but no variance yet
    assert m.mean.tolist() == [4.0, 1.0] and m.var.isnan().all()
    m.update(torch.tensor([[4.0, 3.0]]))
    assert m.mean.tolist() == [4.0, 2.0] and m.var.tolist() == [0.0, 2.0]
    m.update(torch.empty(3, 0, 2))
    assert m.count == 2


def test_leading_axes_all_count_as_inputs():
    z = torch.randn(4, 5, 6, 3, dtype=torch.float64)
    m = moments_of(z)
    assert m.count == 120
    close(m, *two_pass_moments(z.reshape(-1, 3).numpy()), rtol=1e-10)


def test_forgetting_counts_the_past_as_n_f_batches():
    rng = np.random.default_rng(3)
    n_f, b = 3, 8
    # A neuron that drifts, in batches of a growing size: n_f counts batches of the present size.
    batches = [rng.normal(t, 1 + t, (b + t, 1)) for t in range(9)]
    m = RunningMoments(1, forget_after=n_f, dtype=torch.float64)
    mu, v, count = 0.0, 0.0, 0
    for t, batch in enumerate(batches):
        m.update(torch.tensor(batch))
        if t == 0:
            mu, v, count = batch.mean(), batch.var(ddof=1), b
        else:
            count = n_f * len(batch) if t >= n_f else count  # W24 C.1
            mu, v = lemma_3_2(count, mu, v, list(batch[:, 0]))
            count += len(batch)
        close(m, [mu], [v], rtol=1e-10)
        assert m.count == count
    assert m.count == (n_f + 1) * (b + 8)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_batch_with_nan_or_infinity_leaves_the_moments_as_they_were(bad):
    z = torch.randn(20, 3, dtype=torch.float64)
    m = moments_of(z)
    before = m.mean.clone(), m.var.clone()
    poisoned = z.clone()
    poisoned[7, 1] = bad
    m.update(poisoned)
    m.update(poisoned)
    assert torch.equal(m.mean, before[0]) and torch.equal(m.var, before[1])
    assert m.count == 20 and m.skipped == 2 and m.batches == 1
    m.update(z)
    assert m.count == 40 and m.skipped == 2 and m.batches == 2


def test_a_batch_whose_squares_overflow_is_skipped():
    m = moments_of(torch.randn(20, 3), dtype=torch.float32)
    m.update(torch.full((2, 3), 1e30))  # finite, but its square is not
    assert torch.isfinite(m.var).all() and m.count == 20 and m.skipped == 1


def test_a_first_batch_with_nan_is_skipped_too():
    m = RunningMoments(2)
    m.update(torch.tensor([[float("nan"), 1.0], [0.0, 1.0]]))
    m.update(torch.tensor([[1.0, 1.0], [3.0, 1.0]]))
    assert m.mean.tolist() == [2.0, 1.0] and m.var.tolist() == [2.0, 0.0] and m.skipped == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RunningMoments(0), "n_neurons is 0"),
        (lambda: RunningMoments(3, forget_after=0), "forget_after is 0"),
        (lambda: RunningMoments(3, dtype=torch.bfloat16), "float32 or torch.float64"),
        (lambda: RunningMoments(3).update(torch.zeros(5, 4)), r"\(5, 4\); expected \(..., 3\)"),
        (lambda: RunningMoments(3).update(torch.zeros(5, 3, dtype=torch.int64)), "floating"),
        (lambda: RunningMoments(3).merge(RunningMoments(4)), "of 4 neurons into moments of 3"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_only_buffers_and_a_state_that_comes_back():
    m = moments_of(torch.randn(30, 4, dtype=torch.float64))
    assert not list(m.parameters())
    again = RunningMoments(4, dtype=torch.float64)
    again.load_state_dict(m.state_dict())
    z = torch.randn(9, 4, dtype=torch.float64)
    m.update(z)
    again.update(z)
    assert torch.equal(m.var, again.var) and m.count == again.count
