"""A crowd of toy networks is what its members are alone, under every method, against PyTorch and the Inhibitor."""

import numpy as np
import pytest
import torch
from torch import nn

from l2e_min import Inhibitor, TopK
from l2e_min.lab.errors import UserError
from l2e_min.lab.toy.crowd import Crowd, accuracy, losses
from l2e_min.lab.toy.methods import Method, inhibit, network_phi, select
from l2e_min.lab.toy.tasks import combinations, digits, smaller
from l2e_min.lab.toy.training import LATE_START, Order, train

METHODS = {
    "plain": Method(),
    "reverse": Method("reverse", 2.0),
    "freeze": Method("freeze", k=3),
    "straight_through": Method("straight_through"),
    "ms": Method("ms", 0.02, share=0.05),
    "log_ms": Method("log_ms", 0.05),
    "invariant_log_ms": Method("invariant_log_ms", 0.05, share=0.05),
}


@pytest.fixture(scope="module")
def task():
    return smaller(combinations(), 200)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_member_trains_as_it_would_alone(task, name, optimizer):
    options = {"steps": 25, "batch": 20, "hidden": 6, "optimizer": optimizer}
    together = train(task, METHODS[name], seeds=(3, 4, 5), **options).crowd
    alone = train(task, METHODS[name], seeds=(4,), **options).crowd
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a[1], b[0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_a_member_is_a_plain_network_with_the_packages_inhibitor(task, name):
    method = METHODS[name]
    steps, batch, hidden = LATE_START + 8, 20, 6
    crowd = train(task, method, seeds=(7,), steps=steps, batch=batch, hidden=hidden, rate=0.3).crowd
    start = Crowd(task.train_x.shape[1], hidden, sum(task.heads), (7,))
    model = nn.Sequential(nn.Linear(24, hidden), nn.GELU(), nn.Linear(hidden, sum(task.heads))).double()
    with torch.no_grad():
        for layer, weight, bias in ((model[0], start.w1, start.b1), (model[2], start.w2, start.b2)):
            layer.weight.copy_(weight[0].T)
            layer.bias.copy_(bias[0])
    inhibitor = None
    if name != "plain":
        retrieval = TopK(k=method.k) if method.share is None else TopK(share=method.share)
        options = {"strength": method.strength} if name in ("reverse", "freeze", "straight_through") else {}
        options = options or {"weight": method.strength}
        inhibitor = Inhibitor(model, [model[1]], retrieval, inhibition=name, **options)
    opt = torch.optim.SGD(model.parameters(), lr=0.3)
    order = Order(len(task.train_x), batch, (7,))
    for step in range(steps):
        rows = order.rows(step)[0]
        loss = losses(model(task.train_x[rows])[None], task.train_y[rows], task.heads).sum()
        opt.zero_grad()
        (loss + inhibitor.penalty() if inhibitor else loss).backward()
        opt.step()
    # The package's moments are float32, those of the crowd float64.
    torch.testing.assert_close(model[0].weight.T, crowd.w1[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[2].weight.T, crowd.w2[0], rtol=1e-4, atol=1e-5)


def test_loss_and_accuracy_against_numpy(task):
    crowd = Crowd(24, 5, 12, (0, 1), "relu")
    x, y = task.test_x[:30], task.test_y[:30]
    got, right = losses(crowd(x), y, task.heads), accuracy(crowd, x, y, task.heads)
    for s in range(2):
        w1, b1, w2, b2 = (p[s].detach().numpy() for p in crowd.parameters())
        logits = np.maximum(x.numpy() @ w1 + b1, 0) @ w2 + b2
        want, hits = 0.0, []
        for head, part in enumerate((logits[:, :6], logits[:, 6:])):
            shifted = part - part.max(1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
            answer = y[:, head].numpy()
            want -= log_p[np.arange(30), answer].mean()
            hits.append(part.argmax(1) == answer)
        np.testing.assert_allclose(got[s].item(), want, rtol=1e-10)
        np.testing.assert_allclose(right[s].item(), np.mean(hits))


def test_every_network_selects_its_own_pairs():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(3, 10, 4, generator=g, dtype=torch.float64) * torch.tensor([1.0, 100.0, 0.01])[:, None, None]
    phi = network_phi(z, z.mean(1), z.var(1))
    top = select(Method("reverse", k=1), phi)
    assert torch.equal(top.sum(-1), torch.ones(3, 10, dtype=torch.int64))
    assert torch.equal(top.double().argmax(-1), phi.argmax(-1))
    share = select(Method("log_ms", share=0.1), phi)
    assert share.sum((1, 2)).tolist() == [4, 4, 4]
    drawn = select(Method("log_ms", share=0.1, random=True), phi, torch.Generator().manual_seed(1))
    assert drawn.sum((1, 2)).tolist() == [4, 4, 4] and not torch.equal(drawn, share)
    # The floor is each layer's own: scaling one network does not move another's phi.
    scaled = network_phi(z * torch.tensor([1.0, 7.0, 1.0])[:, None, None], z.mean(1), z.var(1))
    torch.testing.assert_close(scaled[0], phi[0])


def test_a_method_leaves_what_it_does_not_select():
    z = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    mean, var = z.detach().mean(1), z.detach().var(1)
    mask = torch.zeros_like(z, dtype=torch.bool)
    mask[:, 0, 1] = True
    seen, penalty = inhibit(Method("reverse", 3.0), z, mean, var, mask)
    assert penalty == 0 and torch.equal(seen[~mask], z[~mask])
    torch.testing.assert_close(seen[mask], mean[:, 1])
    seen.sum().backward()
    assert set(z.grad[mask].tolist()) == {-3.0} and set(z.grad[~mask].tolist()) == {1.0}


def test_combinations_keep_the_held_out_pairs_out():
    task = combinations()
    pairs = [set(map(tuple, y.tolist())) for y in (task.train_y, task.test_y, task.new_y)]
    assert not pairs[0] & pairs[2] and pairs[1] <= pairs[0] and len(pairs[2]) == 12
    for head in (0, 1):
        assert len(task.train_y[:, head].unique()) == 6
        assert len(task.new_y[:, head].unique()) == 6
    assert task.train_x.dtype == torch.float64


def test_digits_are_split_and_scaled():
    task = digits()
    assert task.train_x.shape == (1437, 64) and task.test_x.shape == (360, 64)
    assert task.train_x.min() == 0 and task.train_x.max() == 1
    assert not {tuple(r) for r in task.train_x.tolist()} & {tuple(r) for r in task.test_x[:20].tolist()}


def test_bad_input_by_name():
    with pytest.raises(UserError, match="activation"):
        Crowd(2, 2, 2, (0,), "tanh")
    with pytest.raises(UserError, match="seed"):
        Crowd(2, 2, 2, ())
    with pytest.raises(UserError, match="kind of inhibition"):
        Method("reversed")
    with pytest.raises(UserError, match="held_out"):
        combinations(held_out=36)
    with pytest.raises(UserError, match="optimizer"):
        train(digits(), seeds=(0,), optimizer="lion")
    with pytest.raises(UserError, match="batch"):
        Order(10, 64, (0,))
