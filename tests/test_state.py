"""What must not count as a new batch, and what must not make the host wait: the inhibitor where training gets rough."""

import copy

import pytest
import torch
from models import PlainMLP, build
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from l2e_min import Inhibitor, MovingThreshold, TopK
from l2e_min.state import KEPT_VISITS

KINDS = ("reverse", "log_ms", "invariant_log_ms")
RETRIEVALS = {"top-k": TopK(k=2), "threshold": MovingThreshold(0.1)}


class Shared(nn.Module):
    """Three layers around one activation module; every layer is a region that may be checkpointed."""

    def __init__(self, reentrant):
        super().__init__()
        torch.manual_seed(0)
        self.reentrant, self.act = reentrant, nn.GELU()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            region = nn.Sequential(layer, self.act)
            x = region(x) if self.reentrant is None else checkpoint(region, x, use_reentrant=self.reentrant)
        return x


def train(reentrant, kind, retrieval, penalty_in="loss", forwards=1, steps=6):
    """Weights, penalties and state after some steps of which each takes that many forwards before one backward."""
    model = Shared(reentrant)
    inhibitor = Inhibitor(model, "act", RETRIEVALS[retrieval], kind, 0.1, start_after=2, penalty_in=penalty_in)
    optimizer, g, penalties = torch.optim.SGD(model.parameters(), lr=0.05), torch.Generator().manual_seed(0), []
    for _ in range(steps):
        optimizer.zero_grad()
        batches = [torch.randn(32, 8, generator=g).requires_grad_() for _ in range(forwards)]
        loss = sum(model(x).square().mean() for x in batches)
        penalties.append(inhibitor.penalty())
        (loss + penalties[-1]).backward()
        optimizer.step()
    return {**dict(model.named_parameters()), **inhibitor.state_dict(), "penalties": torch.stack(penalties)}


@pytest.mark.parametrize("forwards", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("retrieval", RETRIEVALS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("reentrant", "penalty_in"), [(False, "loss"), (False, "backward"), (True, "backward")])
def test_activation_checkpointing_changes_nothing(reentrant, penalty_in, kind, retrieval, forwards):
    """Up to nine visits wait for their backward, which comes in the reverse order; each must find its own selection."""
    want = train(None, kind, retrieval, penalty_in, forwards)
    got = train(reentrant, kind, retrieval, penalty_in, forwards)
    for key, tensor in want.items():
        assert torch.equal(got[key], tensor), key
    assert got["act/moments.batches"] == 6 * 3 * forwards


def test_of_equal_batches_the_newest_is_recalled():
    """Nothing before the site trains, so every batch has the same values, but not the same moments before it."""
    results = []
    for reentrant in (None, False):
        model = Shared(reentrant)
        model.layers[0].requires_grad_(False)
        model.layers = model.layers[:1]
        inhibitor = Inhibitor(model, "act", TopK(k=2), "log_ms", weight=1.0, start_after=0, forget_after=None)
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        for step in range(4):
            x.grad = None
            (model(x if step else 3 * x).sum() + inhibitor.penalty()).backward()
        results.append(x.grad)
    assert torch.equal(*results)


@pytest.mark.parametrize("kind", ["reverse", "log_ms"])
def test_gradient_checkpointing_of_a_transformer(kind):
    results = []
    for checkpointed in (False, True):
        model, batch, _, _ = build("gpt_neox")
        model.train()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        inhibitor = Inhibitor(model, "middle-2", inhibition=kind, weight=0.1, start_after=1)
        for _ in range(4):
            (model(**batch).loss + inhibitor.penalty()).backward()
        results.append(({n: p.grad for n, p in model.named_parameters()}, inhibitor.state_dict()))
    for want, got in zip(*results, strict=True):
        assert all(torch.equal(want[key], got[key]) for key in want)


def test_a_penalty_that_reentrant_checkpointing_loses_is_an_error():
    with pytest.raises(RuntimeError, match="reentrant checkpointing runs the forward pass without a graph"):
        train(True, "log_ms", "top-k")


def test_a_forward_without_gradient_before_the_backward_pass_does_no_harm():
    model = Shared(False)
    inhibitor = Inhibitor(model, "act", TopK(k=2), "log_ms", start_after=0)
    loss = model(torch.randn(16, 8).requires_grad_()).sum() + inhibitor.penalty()
    with torch.no_grad():
        model(torch.randn(16, 8))
    loss.backward()


def test_a_forward_that_was_not_visited_is_not_touched_when_it_is_recomputed():
    model = PlainMLP()  # goes on behind the site, so that the recomputation gets there
    inhibitor = Inhibitor(model, "act", TopK(k=2), "reverse", start_after=0)
    inhibitor.pause()
    y = checkpoint(model, torch.randn(16, 8).requires_grad_(), use_reentrant=False)
    inhibitor.resume()
    y.sum().backward()
    assert inhibitor.state_dict()["act/moments.batches"] == 0


def test_what_is_kept_for_recomputation_is_bounded_and_holds_no_activations():
    model = PlainMLP()
    inhibitor = Inhibitor(model, "act", start_after=0)
    for _ in range(2 * KEPT_VISITS):
        model(torch.randn(50, 8))
        inhibitor.penalty()
    visits = inhibitor.states["act"].visits
    assert len(visits) == KEPT_VISITS
    kept = [t for visit in visits for t in visit if isinstance(t, torch.Tensor)]
    assert all(t.untyped_storage().nbytes() <= 16 * 4 and not t.requires_grad for t in kept)  # 16 neurons in float32


def test_a_deep_copy_of_the_model_is_left_alone():
    model, x = PlainMLP(), torch.randn(16, 8)
    free = model(x)
    inhibitor = Inhibitor(model, "act", TopK(k=3), "freeze", start_after=0)
    model(x)
    twin, before = copy.deepcopy(model), {k: v.clone() for k, v in inhibitor.state_dict().items()}
    assert torch.equal(twin(x), free) and not torch.equal(model(x), free)
    assert before["act/moments.batches"] == 1 and inhibitor.state_dict()["act/moments.batches"] == 2


def test_inference_mode_is_left_alone():
    model, x = PlainMLP(), torch.randn(16, 8)
    free = model(x)
    inhibitor = Inhibitor(model, "act", TopK(k=3), "freeze", start_after=0)
    with torch.inference_mode():
        assert torch.equal(model(x), free) and torch.equal(model(x), free)
    assert not inhibitor.states
    model(x)
    assert not torch.equal(model(x), free)


def test_data_parallel_is_refused():
    model = PlainMLP()
    Inhibitor(model, "act")
    with pytest.raises(RuntimeError, match="use DistributedDataParallel"):
        model.act._replicate_for_data_parallel()(torch.randn(4, 16))


def test_a_second_derivative_through_the_backward_penalty_is_an_error():
    model = PlainMLP()
    Inhibitor(model, "act", start_after=0, penalty_in="backward")
    model(torch.randn(16, 8))
    x = torch.randn(16, 8).requires_grad_()
    (grad,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.square().sum().backward()


class NoWaiting(TorchDispatchMode):
    """Refuses every operation that reads a value on the host or whose result's size depends on values."""

    NAMES = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "item", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put_", "index_put", "_index_put_impl_") else ()
        boolean = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)
        if name.startswith(self.NAMES) or boolean:
            raise AssertionError(f"the host waits for the device: aten.{name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "device", ["meta", pytest.param("cpu", marks=pytest.mark.slow)]
)  # meta takes the path of the GPU and holds no values to read
@pytest.mark.parametrize("checkpointed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("penalty_in", ["loss", "backward"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("retrieval", RETRIEVALS)
def test_the_training_path_never_waits_for_the_device(device, checkpointed, penalty_in, kind, retrieval):
    model = Shared(False if checkpointed else None).to(device)
    inhibitor = Inhibitor(model, "act", RETRIEVALS[retrieval], kind, start_after=1, penalty_in=penalty_in)
    x = torch.randn(16, 8, device=device).requires_grad_()
    with NoWaiting():
        for _ in range(3):
            (model(x).square().mean() + inhibitor.penalty()).backward()
    assert inhibitor.states["act"].moments.batches.device.type == device


@pytest.mark.parametrize(
    "wait", [lambda t: t.sum().item(), lambda t: bool(t.sum() > 0), lambda t: t[t > 0], lambda t: t.nonzero()]
)
def test_the_watch_for_waiting_sees_it(wait):
    with NoWaiting(), pytest.raises(AssertionError, match="the host waits"):
        wait(torch.randn(5))


def test_checked_mode_waits():
    model = PlainMLP()
    Inhibitor(model, "act", checked=True)
    with NoWaiting(), pytest.raises(AssertionError, match="the host waits"):
        model(torch.randn(5, 8))
