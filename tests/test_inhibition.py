"""Values and gradients of every kind of inhibition, against the table of W24 E.3 and W25 eq. 5."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2e_min import deactivate, ms_penalty
from l2e_min.inhibition import PENALTY_FORMS

KINDS = {"naive (a)": 0.0, "naive (b)": -1.0, "reverse": 1.0, "stronger": 50.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_value_is_the_mean_and_the_gradient_is_minus_d(kind, dtype):
    g = torch.Generator().manual_seed(0)
    z = torch.randn(6, 4, generator=g).to(dtype).requires_grad_()
    mean = torch.randn(4, generator=g)
    mask = torch.rand(6, 4, generator=g) < 0.4
    arriving = torch.randn(6, 4, generator=g).to(dtype)
    out = deactivate(z, mean, mask, KINDS[kind])
    out.backward(arriving)
    assert torch.equal(out[mask], mean.to(dtype).expand(6, 4)[mask])  # to the last bit
    assert torch.equal(out[~mask], z[~mask])
    assert torch.equal(z.grad[~mask], arriving[~mask])
    torch.testing.assert_close(z.grad[mask], -KINDS[kind] * arriving[mask])
    assert out.dtype == dtype


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), form=st.sampled_from(PENALTY_FORMS), share=st.floats(0, 1))
def test_penalty_is_the_mean_over_the_selected_pairs(seed, form, share):
    rng = np.random.default_rng(seed)
    z, mean, var = rng.normal(1, 2, (8, 3)), rng.normal(size=3), rng.uniform(0.5, 2, 3)
    mask = rng.random((8, 3)) < share
    got = ms_penalty(*map(torch.tensor, (z, mean, var, mask)), form=form)
    np.testing.assert_allclose(got.item(), reference.penalty(z, mean, var, mask, form), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", PENALTY_FORMS)
def test_gradient_is_that_of_finite_differences(form):
    g = torch.Generator().manual_seed(1)
    z = torch.randn(7, 3, generator=g, dtype=torch.float64).requires_grad_()
    mean, var = torch.randn(3, generator=g).double(), torch.rand(3, generator=g).double() + 0.5
    mask = torch.rand(7, 3, generator=g) < 0.5
    assert torch.autograd.gradcheck(lambda x: ms_penalty(x, mean, var, mask, form), z)


def test_gradients_by_hand():
    z = torch.tensor([[3.0, 5.0]], requires_grad=True)
    mean, var, mask = torch.tensor([1.0, 1.0]), torch.tensor([4.0, 4.0]), torch.tensor([[True, False]])
    for form, want in (("ms", 2 * 2 / 4), ("log_ms", 2 / 2)):
        (grad,) = torch.autograd.grad(ms_penalty(z, mean, var, mask, form), z)
        assert grad.tolist() == [[want, 0.0]]


@pytest.mark.parametrize("form", PENALTY_FORMS)
def test_nothing_selected_is_zero_with_zero_gradient(form):
    z = torch.randn(4, 3, requires_grad=True)
    p = ms_penalty(z, torch.zeros(3), torch.zeros(3), torch.zeros(4, 3, dtype=torch.bool), form)
    p.backward()
    assert p == 0 and (z.grad == 0).all()


@pytest.mark.parametrize("form", PENALTY_FORMS)
@pytest.mark.parametrize("var", [0.0, 1.0, float("nan")])
def test_unselected_trouble_does_not_leak(form, var):
    """A neuron at its mean has log 0, and one without a variance divides by it: neither matters unselected."""
    z = torch.tensor([[1.0, 2.0], [1.0, 3.0]], requires_grad=True)
    mask = torch.tensor([[False, True], [False, True]])
    p = ms_penalty(z, torch.tensor([1.0, 0.0]), torch.tensor([var, 1.0]), mask, form)
    p.backward()
    assert torch.isfinite(p) and torch.isfinite(z.grad).all()


@pytest.mark.parametrize("var", [0.0, 1.0])
@pytest.mark.parametrize("form", PENALTY_FORMS)
def test_a_selected_value_at_its_mean_and_a_batch_of_one_have_a_finite_penalty(form, var):
    z = torch.tensor([[1.0]], requires_grad=True)
    p = ms_penalty(z, torch.tensor([1.0]), torch.tensor([var]), torch.tensor([[True]]), form)
    p.backward()
    assert torch.isfinite(p) and torch.isfinite(z.grad).all()


@pytest.mark.parametrize("form", PENALTY_FORMS)
def test_moments_are_constants_in_every_gradient(form):
    z, mask = torch.randn(5, 3, requires_grad=True), torch.ones(5, 3, dtype=torch.bool)
    mean, var = torch.randn(3, requires_grad=True), torch.ones(3, requires_grad=True)
    (ms_penalty(z, mean, var, mask, form) + deactivate(z, mean, mask).sum()).backward()
    assert z.grad is not None and mean.grad is None and var.grad is None


@pytest.mark.parametrize(("form", "falls"), [("log_ms", True), ("ms", True), ("invariant_log_ms", False)])
def test_shrinking_all_activations_alike_pays_except_in_the_invariant_form(form, falls):
    z = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero, one = torch.zeros(4).double(), torch.ones(4).double()
    mask = z.square() > 2
    whole, half = (ms_penalty(s * z, zero, one, mask, form).item() for s in (1.0, 0.5))
    assert (half < whole - 0.1) if falls else half == pytest.approx(whole, abs=1e-12)


def test_half_precision_is_computed_in_float32():
    z = torch.tensor([[300.0, 0.0]], dtype=torch.float16)  # 300^2 overflows float16
    p = ms_penalty(z, torch.zeros(2), torch.ones(2), torch.tensor([[True, False]]), "ms")
    assert p.dtype == torch.float32 and p == 90000
    for form in PENALTY_FORMS:  # and squares that float16 would call zero
        small = (1e-3 * torch.randn(6, 2, generator=torch.Generator().manual_seed(0))).half()
        got, want = (
            ms_penalty(x, torch.zeros(2), torch.ones(2), torch.ones(6, 2, dtype=torch.bool), form)
            for x in (small, small.float())
        )
        assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z, m: ms_penalty(z, z[0], z[0], m, "log"), "form is 'log'; expected one of ms, log_ms"),
        (lambda z, m: ms_penalty(z, z[0], z[0], m[:2]), r"expected torch.bool \(3, 4\)"),
        (lambda z, m: deactivate(z, z[0], m.float()), "the mask is torch.float32"),
        (lambda z, m: deactivate(z, z[0, :2], m), r"shape \(2,\) for values"),
    ],
)
def test_bad_input_is_named(call, words):
    z = torch.randn(3, 4)
    with pytest.raises(ValueError, match=words):
        call(z, z > 0)
