"""The walk in blocks gives what separate tensor operations give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from l2e_min import monosemantic_scale
from l2e_min.fused import batch_sums


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 700), n_neurons=st.integers(1, 70), seed=st.integers(0, 2**31), double=st.booleans())
def test_agrees_with_separate_operations(n, n_neurons, seed, double):
    kind = torch.float64 if double else torch.float32
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, n_neurons, generator=g).to(kind)
    centre, scale = torch.randn(n_neurons, generator=g).to(kind), torch.rand(n_neurons, generator=g).to(kind) + 0.1
    sums = batch_sums(z, centre, scale, torch.tensor(2.0))
    d = z.double() - centre.double()
    torch.testing.assert_close(sums.d.double(), d.sum(0), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(sums.d2.double(), d.square().sum(0), rtol=1e-4, atol=1e-3)
    phi = monosemantic_scale(z, centre, scale)
    sure = (phi - 2).abs() > 1e-4  # rounding may tip a value that lies on the threshold
    assert torch.equal(sums.mask[sure], (phi >= 2)[sure])
    assert torch.equal(sums.selected.long(), sums.mask.sum(0))


def test_constant_neurons_and_missing_moments_select_nothing():
    z = torch.ones(5, 2)
    sums = batch_sums(z, torch.ones(2), torch.tensor([0.0, float("nan")]), torch.tensor(0.5))
    assert not sums.mask.any() and (sums.selected == 0).all()
    assert batch_sums(z + 1, torch.ones(2), torch.zeros(2), torch.tensor(0.5)).mask.all()


@pytest.mark.parametrize("device", ["cpu", "elsewhere"])
def test_a_value_on_the_threshold_is_selected(device, monkeypatch):
    if device == "elsewhere":  # the path of a compiler and of a GPU, on this CPU
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    z = torch.tensor([[2.0, 3.0], [4.0, 1.0]])
    sums = batch_sums(z, torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0]), torch.tensor(2.0))
    assert sums.mask.tolist() == [[True, True], [True, False]] and sums.selected.tolist() == [2, 1]
    assert sums.d.tolist() == [6, 2] and sums.d2.tolist() == [20, 4]
    assert batch_sums(z, torch.zeros(2)).mask is None


@pytest.mark.parametrize("layout", ["transposed", "sliced"])
def test_any_memory_layout(layout):
    z = torch.randn(40, 30)
    view = z.T if layout == "transposed" else z[::3, ::2]
    torch.testing.assert_close(batch_sums(view, view[0].clone()).d2, batch_sums(view.contiguous(), view[0].clone()).d2)


@pytest.mark.parametrize("threads", [2, 5])
def test_any_number_of_threads_and_it_stays_as_it_was(threads):
    z, before = torch.randn(600, 300), torch.get_num_threads()
    want = batch_sums(z, z[0].clone(), torch.ones(300), torch.tensor(2.0))
    torch.set_num_threads(threads)
    try:
        got = batch_sums(z, z[0].clone(), torch.ones(300), torch.tensor(2.0))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(got.d2, want.d2)
    assert torch.equal(got.mask, want.mask)
