"""The penalty in the backward pass: the same gradient, selection and state as in the loss, from one walk."""

import math

import numpy as np
import pytest
import reference
import torch
from models import PlainMLP, build
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from l2e_min import Inhibitor, MovingThreshold, TopK, fused_penalty
from l2e_min.fused import batch_sums
from l2e_min.fused_penalty import penalty_walk

FORMS = ("ms", "log_ms", "invariant_log_ms")
PATHS = ("blocks", "blocks of a GPU", "compiler")


def take_path(path, monkeypatch):
    """Sends the walk over ``path`` on this CPU."""
    if path == "compiler":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    elif path == "blocks of a GPU":
        monkeypatch.setattr(fused_penalty, "on_cpu", lambda z: False)
        monkeypatch.setattr(fused_penalty, "GPU_BLOCK_BYTES", 4 * 1000)


def plain(seed=0):
    torch.manual_seed(seed)
    return PlainMLP()


def batches(n, rows=32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, 8, generator=g) for _ in range(n)]


def off(a, b):
    """Distance of two tensors, relative to the second's norm."""
    return ((a - b).norm() / b.norm()).item()


# --- the walk


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", ["ms", "log_ms"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (700, 40)])
def test_the_walk_against_loops(shape, form, path, monkeypatch):
    rng = np.random.default_rng(0)
    z, mean, var = rng.standard_t(5, shape), rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1])
    z = z.astype(np.float32)
    tau, eps = 2.0, 0.1
    z[abs(reference.phi(z, mean, var, eps) - tau) < 1e-4] = 0.1  # which rounding might tip
    phi = reference.phi(z, mean, var, eps)
    scale = var + eps * var.mean()
    take_path(path, monkeypatch)
    as32 = [torch.tensor(a, dtype=torch.float32) for a in (z, mean, var, scale, tau)]
    walk = penalty_walk(*as32, form)
    want, count = np.zeros(shape), 0
    for i in range(shape[0]):
        for j in range(shape[1]):
            if phi[i, j] >= tau:
                count += 1
                want[i, j] = 1 / (z[i, j] - mean[j]) if form == "log_ms" else (z[i, j] - mean[j]) / var[j]
    assert walk.selected == count
    np.testing.assert_allclose(walk.half_gradient.numpy(), want, rtol=1e-5)
    np.testing.assert_allclose(walk.sums.d.numpy(), (z - mean).sum(0), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(walk.sums.d2.numpy(), ((z - mean) ** 2).sum(0), rtol=1e-4)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_walk_selects_what_the_other_one_selects(dtype, path, monkeypatch):
    g = torch.Generator().manual_seed(0)
    z = torch.randn(600, 50, generator=g).to(dtype)
    mean, var, tau = z[0].float(), torch.rand(50, generator=g) + 0.1, torch.tensor(2.0)
    want = batch_sums(z, mean, var, tau)
    take_path(path, monkeypatch)
    walk = penalty_walk(z, mean, var, var, tau, "log_ms")
    assert torch.equal(walk.half_gradient != 0, want.mask) and walk.selected == want.selected.sum()
    torch.testing.assert_close(walk.sums.d2, want.d2, rtol=1e-5, atol=0)
    assert walk.half_gradient.dtype == (torch.bfloat16 if dtype == torch.bfloat16 else torch.float32)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", ["ms", "log_ms"])
def test_constant_neurons_missing_moments_and_nan_send_nothing(form, path, monkeypatch):
    take_path(path, monkeypatch)
    z = torch.ones(5, 3)
    z[2, 2] = torch.nan
    var = torch.tensor([0.0, torch.nan, 1.0])
    walk = penalty_walk(z, torch.ones(3), var, var, torch.tensor(0.5), form)
    assert (walk.half_gradient == 0).all() and walk.selected == 0


# --- the same gradient and the same state as in the loss


def gradients(form, retrieval, penalty_in, dtype=torch.float32, steps=6):
    """Gradients at a site of every step, and its state afterwards."""
    site, found = nn.Identity(), []
    inhibitor = Inhibitor(site, site, retrieval, form, 0.3, start_after=2, penalty_in=penalty_in)
    for z in batches(steps, rows=500):
        z = z.to(dtype).requires_grad_()
        (site(z).square().mean() + inhibitor.penalty()).backward()
        found.append(z.grad)
    return found, inhibitor.state_dict()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("retrieval", [MovingThreshold(0.1), TopK(k=2)], ids=["threshold", "top-k"])
@pytest.mark.parametrize("form", FORMS)
def test_same_gradient_same_state(form, retrieval, path, monkeypatch):
    take_path(path, monkeypatch)
    want, state = gradients(form, retrieval, "loss")
    got, state_too = gradients(form, retrieval, "backward")
    free, _ = gradients("reverse", TopK(k=1), "loss", steps=2)
    assert all(torch.equal(want[i], free[i]) and torch.equal(got[i], free[i]) for i in (0, 1))  # before start_after
    # A GPU's blocks sum in another order than the loss form here, so their moments differ in the last digit.
    near = 1e-6 if path == "blocks of a GPU" else 1e-7
    assert all(off(a, b) < near for a, b in zip(got[2:], want[2:], strict=True))
    assert all(off(a, b) > 0.1 for a, b in zip(got[2:4], free, strict=True))  # and the penalty did something
    for key in state:
        torch.testing.assert_close(state_too[key], state[key], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-7), (torch.bfloat16, 0.005), (torch.float16, 0.001)])
def test_other_precisions(dtype, near):
    want, _ = gradients("log_ms", MovingThreshold(0.1), "loss", dtype)
    got, _ = gradients("log_ms", MovingThreshold(0.1), "backward", dtype)
    for a, b in zip(got, want, strict=True):
        assert off(a.double(), b.double()) < near and a.dtype == dtype


def test_the_gradient_at_the_site_itself():
    """Unselected entries to the last bit, selected ones by hand; also where float16 would overflow on the way."""
    site = nn.Identity()
    inhibitor = Inhibitor(site, site, MovingThreshold(0.1), weight=0.5, start_after=0, floor=0, penalty_in="backward")
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        z = (1e-5 * torch.randn(40, 6, generator=g)).half().requires_grad_()  # 1/z passes what float16 can hold
        arriving = torch.randn(40, 6, generator=g).half()
        moments, tau = inhibitor.states.get("") and inhibitor.states[""].moments, None
        if moments:
            mean, var, tau = moments.mean.clone(), moments.var.clone(), inhibitor.states[""].retrieval.tau
        site(z).backward(arriving)
        if tau is None:
            assert torch.equal(z.grad, arriving)
            continue
        d = z.detach().float() - mean
        mask = d.square() / var >= tau
        want = arriving.float() + torch.where(mask, 0.5 * 2 / d / mask.sum(), 0)
        assert mask.any() and torch.equal(z.grad[~mask], arriving[~mask])
        torch.testing.assert_close(z.grad.float(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("given", [0.25, lambda: torch.tensor(0.25)])
def test_accumulated_batches(given):
    sums = []
    for penalty_in in ("loss", "backward"):
        model = plain()
        inhibitor = Inhibitor(model, "act", weight=0.5, start_after=1, penalty_in=penalty_in, loss_scale=given)
        for x in batches(8):
            ((model(x).square().mean() + inhibitor.penalty()) / 4).backward()
        sums.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert off(sums[1], sums[0]) < 3e-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_on_a_transformer(dtype):
    found = []
    for penalty_in in ("loss", "backward"):
        model, batch, _, _ = build("gpt_neox")
        inhibitor = Inhibitor(model.train(), "middle-2", weight=0.5, start_after=1, penalty_in=penalty_in)
        for _ in range(4):
            model.zero_grad()
            with torch.autocast("cpu", dtype=dtype):
                loss = model(**batch).loss
            (loss + inhibitor.penalty()).backward()
        found.append((torch.cat([p.grad.flatten() for p in model.parameters()]), inhibitor.state_dict()))
    assert off(found[1][0], found[0][0]) < 0.01
    for key, want in found[0][1].items():
        assert want.dtype == found[1][1][key].dtype
        torch.testing.assert_close(found[1][1][key], want, rtol=1e-4, atol=1e-6)


def compiled_run(penalty_in, **compiling):
    model = plain()
    inhibitor = Inhibitor(model, "act", weight=0.1, start_after=2, penalty_in=penalty_in)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for i, x in enumerate(batches(6)):
        # The first batch makes the site's state, which no compiler follows.
        run = torch.compile(model, fullgraph=True, **compiling) if compiling and i else model
        optimizer.zero_grad()
        (run(x).square().mean() + inhibitor.penalty()).backward()
        optimizer.step()
    return {**dict(model.named_parameters()), **inhibitor.state_dict()}


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_in_one_graph(backend):
    want, got = compiled_run("loss"), compiled_run("backward", backend=backend)
    for key in want:
        torch.testing.assert_close(got[key], want[key], rtol=1e-4, atol=1e-6)
    assert got["act/moments.batches"] == 6


# --- what it must not do


def test_keeps_nothing_for_the_backward_pass_but_what_is_kept_anyway():
    """A linear layer behind the site keeps its input; the penalty in the loss keeps masks and squares beside it."""
    kept = {}
    for penalty_in in (None, "loss", "backward"):
        model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64))
        inhibitor = penalty_in and Inhibitor(model, "1", start_after=0, penalty_in=penalty_in)
        x, storages = torch.randn(100, 64), {}

        def pack(t, storages=storages):
            storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        for _ in range(2):
            storages.clear()
            with saved_tensors_hooks(pack, lambda t: t):
                loss = model(x).sum() + (inhibitor.penalty() if inhibitor else 0)
            kept[penalty_in] = sum(storages.values())
            loss.backward()
    assert kept["backward"] == kept[None] < kept["loss"]


def test_a_forward_pass_without_a_backward_pass_is_not_seen():
    model = plain()
    inhibitor = Inhibitor(model, "act", penalty_in="backward")
    x = torch.randn(16, 8)
    with torch.no_grad():
        model(x)
    y = model(x)
    assert inhibitor.report().rows == [] or inhibitor.report().rows[0]["batches"] == 0
    y.sum().backward()
    assert inhibitor.report().rows[0]["batches"] == 1 and inhibitor.penalty() == 0


def test_of_two_forward_passes_the_last_is_seen_first():
    model = plain()
    inhibitor = Inhibitor(model, "act", penalty_in="backward", forget_after=None)
    model(torch.empty(0, 8)).sum().backward()
    (model(torch.randn(5, 8)).sum() + model(torch.full((7, 8), math.nan)).sum()).backward()
    row = inhibitor.report().rows[0]
    assert (row["batches"], row["skipped"]) == (1, 1) and inhibitor.states["act"].moments.count == 5


def test_pause_eval_and_remove():
    model, x = plain(), torch.randn(16, 8)
    inhibitor = Inhibitor(model, "act", weight=5.0, start_after=0, penalty_in="backward")

    def gradient():
        model.zero_grad()
        model(x).square().mean().backward()
        return model.first.weight.grad.clone()

    gradient()
    inhibitor.pause()
    free, state = gradient(), {k: v.clone() for k, v in inhibitor.state_dict().items()}
    model.eval()
    inhibitor.resume()
    assert torch.equal(gradient(), free)
    assert all(torch.equal(v, state[k]) for k, v in inhibitor.state_dict().items())
    model.train()
    assert not torch.equal(gradient(), free)
    inhibitor.remove()
    assert torch.equal(gradient(), free)


def test_the_gradient_that_arrives_is_not_changed():
    site = nn.Identity()
    Inhibitor(site, site, weight=5.0, start_after=0, penalty_in="backward")
    for _ in range(3):
        z, arriving = torch.randn(40, 6).requires_grad_(), torch.ones(40, 6)
        site(z).backward(arriving)
        assert (arriving == 1).all()
    assert not torch.equal(z.grad, arriving)
