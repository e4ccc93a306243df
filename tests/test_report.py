"""What an inhibitor reports: planted dead neurons, MS on a batch against NumPy, and the pictures of it."""

import math

import numpy as np
import pytest
import torch
from models import PlainMLP, build
from torch import nn

from l2e_min import Inhibitor, TopK
from l2e_min.lab.errors import UserError
from l2e_min.report import COLUMNS, DEAD, Report
from l2e_min.show.report_plot import report_by_site, report_over_steps


def observed(module, values, **options):
    """An inhibitor on the output of ``module`` that has seen ``values`` in training mode."""
    inhibitor = Inhibitor(module, [module], **options)
    module.train()
    for z in values:
        module(z)
    return inhibitor


def test_dead_neurons_are_counted_by_their_sites_mean():
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(30, 500, 8, generator=draw)
    z[..., 1] *= 0.5 * DEAD**0.5  # below a hundredth of the others' deviation
    z[..., 2] *= 5 * DEAD**0.5  # above it
    z[..., 3] = 7.0  # constant, and so dead
    (row,) = observed(nn.Identity(), z).report().rows
    var = z.double().flatten(0, 1).numpy().var(0, ddof=1)
    assert row["dead"] == 2 == (var <= DEAD * var.mean()).sum() and row["constant"] == 1


def test_a_neuron_that_dies_is_dead_once_the_moments_have_forgotten_it():
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(150, 50, 4, generator=draw)
    z[20:, :, 0] = 0  # a ReLU unit that went silent
    found = [observed(nn.Identity(), z[:n]).report().rows[0] for n in (20, 60, 150)]
    assert [row["dead"] for row in found] == [0, 0, 1]


def fresh(z):
    """MS of values (n, N) by their own moments, in NumPy."""
    z = z.double().numpy()
    phi = (z - z.mean(0)) ** 2 / z.var(0, ddof=1)
    return phi.max(1).mean(), (phi**2).mean()


def test_ms_on_a_batch_is_that_of_its_own_moments():
    torch.manual_seed(0)
    model, x = PlainMLP().double(), torch.randn(40, 8, dtype=torch.float64)
    inhibitor = Inhibitor(model, ["act", "act2:input"])
    model(x)
    report = inhibitor.report(x)
    z = model.act(model.first(x)).detach()
    for row, values in zip(report.rows, (z, model.second(z).detach()), strict=True):
        assert (row["top"], row["kurtosis"]) == pytest.approx(fresh(values), rel=1e-6)
    assert all(heading in str(report) for heading in COLUMNS.values())
    plain = inhibitor.report()
    assert "top" not in plain.rows[0] and "φ" not in str(plain)


def test_looking_leaves_everything_as_it_was():
    model, batch, _, _ = build("bert")
    model.train()
    model.bert.encoder.layer[0].eval()  # a part that the user froze
    inhibitor = Inhibitor(model, "middle-2")
    model(**batch).loss + inhibitor.penalty()
    state, random = {k: t.clone() for k, t in inhibitor.state_dict().items()}, torch.get_rng_state()
    modes = [module.training for module in model.modules()]
    report = inhibitor.report(**batch)
    assert [module.training for module in model.modules()] == modes and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(inhibitor.state_dict()[k], t) for k, t in state.items())
    assert inhibitor.penalty() == 0 and all(math.isfinite(row["kurtosis"]) for row in report.rows)
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert hooks == len(inhibitor.sites)
    with pytest.raises((TypeError, ValueError)):
        inhibitor.report(nothing_like_it=1)
    assert [module.training for module in model.modules()] == modes


def test_neurons_that_are_constant_have_no_ms_and_several_axes_are_one():
    z = torch.randn(20, 3, 4, generator=torch.Generator().manual_seed(0))
    z[:, 0, 0] = 2.0
    inhibitor = observed(nn.Identity(), [z], neuron_axes=2, retrieval=TopK(k=1))
    (row,) = inhibitor.report(z).rows
    assert (row["top"], row["kurtosis"]) == pytest.approx(fresh(z.flatten(1)[:, 1:]), rel=1e-4)
    (row,) = inhibitor.report(torch.ones(5, 3, 4)).rows
    assert math.isnan(row["top"]) and math.isnan(row["kurtosis"])


def row(site, dead=0, variance=0.1):
    return {"site": site, "neurons": 8, "batches": 1, "skipped": 0, "share": 0.02, "tau": 6.0, "variance": variance,
            "dead": dead, "constant": 0}  # fmt: skip


def test_the_pictures_show_the_rows():
    history = [(step, Report([row("a", 2), row("b", 0, 0.01 * step)])) for step in (10, 20)]
    history.insert(0, (0, Report([])))
    share, tau, variance, dead = report_over_steps(history, share=0.02).axes
    assert [list(line.get_ydata()) for line in dead.lines] == [[25, 25], [0, 0]]
    assert [list(line.get_ydata()) for line in share.lines] == [[2, 2], [2, 2], [2, 2]]
    assert list(variance.lines[1].get_xdata()) == [10, 20] and variance.get_yscale() == "log"
    np.testing.assert_allclose(variance.lines[1].get_ydata(), [0.1, 0.2])
    assert list(tau.lines[0].get_ydata()) == [6, 6]
    many = Report([row(f"layer {i}", i % 3, 0.0 if i == 3 else 0.1) for i in range(24)])
    figure = report_by_site(many)
    assert [round(bar.get_width(), 1) for bar in figure.axes[3].patches[:3]] == [0, 12.5, 25]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["layer 0", "layer 1"]
    assert len(report_over_steps([(1, many), (2, many)]).legends[0].get_texts()) == 2


def test_nothing_to_draw_is_an_error():
    for draw in (lambda: report_over_steps([(1, Report([]))]), lambda: report_by_site(Report([]))):
        with pytest.raises(UserError, match="training batch"):
            draw()
