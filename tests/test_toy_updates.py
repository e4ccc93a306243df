"""One planted neuron, one update and the measures: against formulas worked out by hand, and in NumPy."""

import numpy as np
import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.toy.contributions import contributions
from l2e_min.lab.toy.measures import layer_numbers, look
from l2e_min.lab.toy.methods import Method
from l2e_min.lab.toy.one_neuron import follow, planted_network
from l2e_min.lab.toy.one_update import KINDS, one_update
from l2e_min.lab.toy.tasks import combinations, smaller
from l2e_min.lab.toy.training import Order, train


@pytest.fixture(scope="module")
def planted():
    return planted_network()


@pytest.fixture(scope="module")
def task():
    return smaller(combinations(), 320)


def trained(task, optimizer):
    return train(task, seeds=(0, 1), steps=40, batch=32, hidden=8, optimizer=optimizer)


def test_the_planted_unit_answers_to_its_feature_alone(planted):
    crowd, task = planted
    z = crowd.values(task.train_x)[0].detach()  # (n, N)
    on = task.train_y[:, 0] == 0
    assert z[on, 0].min() > 2 and z[~on, 0].max() < 1.5
    assert z[~on, 1:].amax(0).min() > 2  # every other unit has features of its own
    without = z.clone()
    without[:, 0] = z[:, 0].mean()
    nats = [
        torch.nn.functional.cross_entropy(crowd.outputs(v[None])[0], task.train_y[:, 0], reduction="none")
        for v in (z, without)
    ]
    assert (nats[1] > 5 * nats[0])[on].all()  # only this unit knows the feature
    assert (nats[1][~on] / nats[0][~on]).mean() < 2


def test_lemma_3_3_to_first_order(planted):
    """One input, a tiny step: z moves by -rate * gradient * |dz/dweights|^2, with the gradient -D times the task's."""
    crowd, task = planted
    rate = 1e-5
    x, z_all = task.train_x[0], crowd.values(task.train_x)[0]
    crowd.zero_grad()
    z_all[0, 0].backward()
    reach = (crowd.w1.grad[0, :, 0] ** 2).sum() + crowd.b1.grad[0, 0] ** 2
    for strength in (-2.0, 0.0, 1.0, 10.0):
        path = follow(crowd, task, Method("reverse", strength), steps=1, rate=rate, alone=True)
        moved = (path.value[1] - path.value[0]).item()
        assert moved == pytest.approx(-rate * path.gradient[0].item() * reach.item(), rel=1e-2, abs=1e-12)
    towards = follow(crowd, task, Method("reverse"), steps=1, rate=rate, alone=True)
    away = follow(crowd, task, Method("straight_through"), steps=1, rate=rate, alone=True)
    assert towards.value[1] < towards.value[0] < away.value[1] and x.shape == (8,)
    assert towards.gradient[0] == pytest.approx(-away.gradient[0].item())


def test_following_changes_nothing(planted):
    crowd, task = planted
    before = [p.detach().clone() for p in crowd.parameters()]
    follow(crowd, task, Method("reverse", 100), steps=3)
    assert all(map(torch.equal, before, crowd.parameters()))
    with pytest.raises(UserError, match="not of the planted"):
        follow(crowd, task, Method(), watched=20)


def test_sgd_update_against_numpy(task):
    """The four kinds after one plain SGD step, the whole network written out in float64 NumPy (ReLU)."""
    crowd = train(task, seeds=(0, 1), steps=40, batch=32, hidden=8, activation="relu")
    found = one_update(crowd, task, batches=2, batch=32)
    rows = Order(len(task.train_x), 32, (0, 1)).rows(1)[1].numpy()  # second batch of the second network
    w1, b1, w2, b2 = (p[1].detach().numpy() for p in crowd.crowd.parameters())
    x, y = task.train_x.numpy(), task.train_y.numpy()
    everything = np.maximum(x @ w1 + b1, 0)
    mean, var = everything.mean(0), everything.var(0, ddof=1)
    x, y = x[rows], y[rows]
    pre = x @ w1 + b1
    z = np.maximum(pre, 0)
    j = ((z - mean) ** 2 / (var + 0.01 * var.mean())).argmax(1)
    at = np.arange(32), j
    for kind, d in (("original", None), ("naive (a)", 0.0), ("naive (b)", -1.0), ("RD", 1.0)):
        seen = z.copy()
        if d is not None:
            seen[at] = mean[j]
        logits = seen @ w2 + b2
        slope = np.zeros_like(logits)
        for head in (0, 1):
            part = np.exp(logits[:, 6 * head : 6 * head + 6])
            part /= part.sum(1, keepdims=True)
            part[np.arange(32), y[:, head]] -= 1
            slope[:, 6 * head : 6 * head + 6] = part / 32
        gradient = slope @ w2.T
        if d is not None:
            gradient[at] *= -d
        gradient *= pre > 0
        new = np.maximum(x @ (w1 - 0.5 * x.T @ gradient) + (b1 - 0.5 * gradient.sum(0)), 0)
        np.testing.assert_allclose(found.after[kind][1, 1].numpy(), new[at], rtol=1e-9)
        want = 100 * (1 - ((new[at] - mean[j]) / (z[at] - mean[j])) ** 2)
        np.testing.assert_allclose(found.decrease(kind)[1, 1].numpy(), want, rtol=1e-6, atol=1e-9)
        moved = 100 * np.abs(new[at] / z[at] - 1)
        np.testing.assert_allclose(found.moved(kind)[1, 1].numpy(), moved, rtol=1e-6, atol=1e-9)


def test_adam_shares_its_history_between_the_kinds(task):
    """With beta_1 = 0 the whole step is this batch's; with 0.9 only a tenth of it, so the kinds lie closer together."""
    base = trained(task, "adamw")
    gap = {}
    for history in ("kept", "no momentum", "own"):
        found = one_update(base, task, batches=8, batch=32, factor=0.01, history=history)
        gap[history] = (found.decrease("RD") - found.decrease("naive (b)")).mean((0, 2))  # (T,)
    assert gap["no momentum"].mean() == pytest.approx(10 * gap["kept"].mean().item(), rel=0.2)
    assert gap["own"][0] == pytest.approx(gap["kept"][0].item()) and gap["own"][4:].mean() > 2 * gap["kept"].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_add_up_to_a_small_step(task, kind):
    base = trained(task, "sgd")
    parts = contributions(base, task, KINDS[kind], batches=2, batch=32)
    found = one_update(base, task, batches=2, batch=32, factor=1e-6).decrease(kind) * 1e6
    torch.testing.assert_close(sum(parts.values()), found, rtol=1e-4, atol=1e-4)
    if kind == "naive (a)":
        assert not parts["the pair itself"].any() and not parts["other selected"].any()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_updating_leaves_everything_as_it_was(task, optimizer):
    base = trained(task, optimizer)
    weights = [p.detach().clone() for p in base.crowd.parameters()]
    first = one_update(base, task, batches=2, batch=32)
    assert all(map(torch.equal, weights, base.crowd.parameters()))
    again = one_update(base, task, batches=2, batch=32)
    assert all(torch.equal(first.after[kind], again.after[kind]) for kind in KINDS)
    with pytest.raises(UserError, match="history"):
        one_update(base, task, history="none")


def test_measures_of_a_planted_layer():
    """Half of the units answer to one feature each, half are noise, one is dead."""
    task = combinations()
    g = torch.Generator().manual_seed(0)

    def layer(y):
        on = torch.nn.functional.one_hot(y[:, 0], 6).double()
        noise = torch.randn(len(y), 6, generator=g, dtype=torch.float64)
        return torch.cat([5 * on + 0.1 * noise, torch.full((len(y), 1), 0.3).double()], 1)

    kurtosis, top, selectivity, log_var, dead = layer_numbers(layer(task.train_y), layer(task.test_y), task)
    p = 1 / 6
    assert dead == pytest.approx(1 / 7)
    assert selectivity == pytest.approx((1 - p) / p, rel=0.15)  # phi on the feature of a 0/1 unit
    assert top == pytest.approx((1 - p) / p, rel=0.15)
    assert np.exp(kurtosis) == pytest.approx(p * (1 / p - 1) ** 2 + (1 - p) * (p / (1 - p)) ** 2, rel=0.25)
    assert log_var == pytest.approx(np.log(25 * p * (1 - p)), rel=0.1)


def test_a_look_has_one_number_a_network(task):
    seen = look(trained(task, "sgd").crowd, task, 40)
    for name in ("accuracy", "new_accuracy", "log_kurtosis", "top_phi", "selectivity", "log_variance", "dead"):
        assert getattr(seen, name).shape == (2,), name
    assert seen.accuracy.min() > 0.3
