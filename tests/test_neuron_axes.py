"""A neuron may be an entry of the last axis, or every entry of several: W24's public code takes each position apart."""

import numpy as np
import pytest
import reference
import torch
from models import build
from torch import nn
from torch.utils.checkpoint import checkpoint

from l2e_min import Inhibitor, MovingThreshold, TopK

EPS = 0.3


class Positions(nn.Module):
    """A layer of four neurons at each of three positions, and a site behind it."""

    def __init__(self, checkpointed=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.site, self.checkpointed = nn.Linear(5, 4).double(), nn.Identity(), checkpointed

    def forward(self, x):
        region = nn.Sequential(self.first, nn.GELU(), self.site)
        return checkpoint(region, x, use_reentrant=False) if self.checkpointed else region(x)


def stream(n, inputs=7, positions=3):
    g = torch.Generator().manual_seed(3)
    return [torch.randn(inputs, positions, 5, generator=g).double() for _ in range(n)]


def slow(seen, z, axes):
    """By loops: what (inputs, N) of the last batch is selected by top-1 of a sample, and the means of all before it."""
    width = int(np.prod(z.shape[len(z.shape) - axes :]))
    mean, var = reference.two_pass_moments(np.concatenate([s.reshape(-1, width) for s in seen]))
    phi = reference.phi(z.reshape(-1, width), mean, var, EPS)
    rows_of_one = len(phi) // len(z)  # with one axis a sample has a row a position
    mask = np.zeros(phi.shape, dtype=bool)
    for sample in range(len(z)):
        block = phi[sample * rows_of_one : (sample + 1) * rows_of_one]
        row, column = divmod(int(block.argmax()), width)
        mask[sample * rows_of_one + row, column] = True
    return mask.reshape(z.shape), mean, var, phi


@pytest.mark.parametrize("axes", [1, 2])
def test_agrees_with_a_slow_version(axes):
    model, seen = Positions(), []
    inhibitor = Inhibitor(
        model, "site", TopK(k=1), "freeze", neuron_axes=axes, start_after=1, forget_after=None, floor=EPS
    )
    for x in stream(5):
        z = nn.functional.gelu(model.first(x)).detach().numpy()
        out = model(x).detach().numpy()
        if seen:
            mask, mean, _, _ = slow(seen, z, axes)
            assert mask.sum() == 7
            means = np.broadcast_to(mean.reshape((3, 4) if axes == 2 else 4), z.shape)
            np.testing.assert_allclose(out, np.where(mask, means, z), rtol=1e-5, atol=1e-6)
        seen.append(z)
    width = 12 if axes == 2 else 4
    mean, var = reference.two_pass_moments(np.concatenate([s.reshape(-1, width) for s in seen]))
    moments = inhibitor.states["site"].moments
    np.testing.assert_allclose(moments.mean.numpy(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moments.var.numpy(), var, rtol=1e-4)
    assert inhibitor.report().rows[0]["neurons"] == width
    assert moments.count == (35 if axes == 2 else 105)


def test_the_penalty_and_its_threshold_take_every_entry_apart():
    model, seen = Positions(), []
    inhibitor = Inhibitor(
        model, "site", MovingThreshold(0.2), "log_ms", 1.0, neuron_axes=2, start_after=0, forget_after=None, floor=EPS
    )
    for x in stream(4):
        z = nn.functional.gelu(model.first(x)).detach().numpy()
        tau = inhibitor.states["site"].retrieval.tau.item() if seen else None
        model(x)
        penalty = inhibitor.penalty().item()
        if seen:
            _, mean, var, phi = slow(seen, z, axes=2)
            mask = phi >= tau
            want = reference.penalty(z.reshape(7, 12), mean, var, mask, "log_ms")
            assert penalty == pytest.approx(want, rel=1e-4)
            assert inhibitor.report().rows[0]["share"] == pytest.approx(mask.mean())
        seen.append(z)


@pytest.mark.parametrize("kind", ["reverse", "log_ms"])
def test_recomputation_finds_its_selection(kind):
    results = []
    for checkpointed in (False, True):
        model = Positions(checkpointed)
        inhibitor = Inhibitor(model, "site", TopK(k=2), kind, 0.1, neuron_axes=2, start_after=1)
        for x in stream(4):
            (model(x.requires_grad_()).square().sum() + inhibitor.penalty()).backward()
        results.append({**inhibitor.state_dict(), "gradient": model.first.weight.grad})
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])


def test_the_state_comes_back_and_knows_its_shape():
    model = Positions()
    inhibitor = Inhibitor(model, "site", neuron_axes=2)
    for x in stream(3):
        model(x)
    saved = inhibitor.state_dict()
    inhibitor.remove()
    again = Inhibitor(model, "site", neuron_axes=2)
    again.load_state_dict(saved)
    assert all(torch.equal(again.state_dict()[key], saved[key]) for key in saved)
    with pytest.raises(ValueError, match=r"has shape \(7, 6, 4\); its neurons had shape \(3, 4\) before.* pad all"):
        model(*stream(1, positions=6))
    with pytest.raises(ValueError, match="the state of site has neuron_axes=2; this inhibitor 1"):
        Inhibitor(model, "site").load_state_dict(saved)


def test_bert_as_the_authors_code_reads_it():
    model, batch, _, width = build("bert")
    inhibitor = Inhibitor(model.train(), "middle-2", TopK(k=1), "reverse", neuron_axes=2, start_after=0)
    for _ in range(2):
        model(**batch).loss.backward()
    assert all(row["neurons"] == 10 * width for row in inhibitor.report().rows)
    assert all(row["share"] == pytest.approx(1 / (10 * width)) for row in inhibitor.report().rows)


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        (0, (7, 4), "neuron_axes is 0"),
        (1.5, (7, 4), "neuron_axes is 1.5"),
        (2, (7, 4), r"the output of the model \(Identity\) has shape \(7, 4\); expected a batch axis and 2 more"),
    ],
)
def test_bad_input_is_named(axes, shape, words):
    model = nn.Identity()
    with pytest.raises(ValueError, match=words):
        Inhibitor(model, model, neuron_axes=axes)
        model(torch.randn(shape))


def test_lengths_may_change_where_a_neuron_is_an_entry_of_the_last_axis():
    model = Positions()
    inhibitor = Inhibitor(model, "site")
    model(*stream(1, positions=3))
    model(*stream(1, positions=6))
    assert inhibitor.states["site"].moments.count == 7 * 9
