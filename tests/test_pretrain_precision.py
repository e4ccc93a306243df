"""Accumulation, precision, activation checkpointing and compilation: another way to the same step."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP

from l2e_min import Inhibitor
from l2e_min.lab.mini_bert import untrained_bert
from l2e_min.lab.mini_pythia import load_model, untrained
from l2e_min.lab.training import devices as d
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.checkpoint import load_checkpoint
from l2e_min.lab.training.methods import attach_method
from l2e_min.lab.training.recipe import PretrainSettings, learning_rate_at, make_optimizer

TINY = {"size": "16x2", "steps": 16, "batch": 4, "context": 16, "log_every": 8, "validate_every": 8, "vocabulary": 300}


def settings(**changes) -> PretrainSettings:
    return PretrainSettings(**{**TINY, "device": "cpu", "precision": "fp32", **changes})


@pytest.fixture
def train(tmp_path, corpus):
    """Trains; (weights, the inhibitor's state)."""

    def go(penalty_in="backward", **changes):
        out = tmp_path / "-".join([penalty_in, *(f"{name}={value}" for name, value in changes.items())])
        attach = attach_method(settings(**changes), penalty_in=penalty_in)
        p.pretrain(settings(**changes), out, attach=attach, corpus=corpus, progress=False)
        parts = load_checkpoint(out / "checkpoints/step-00000016")[1]
        return load_model(out / "model")[0].state_dict(), parts.get("inhibitor", {})

    return go


def assert_same(one: dict, other: dict, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """But for the keys' biases: softmax takes them out, their gradient is rounding, and Adam makes full steps of it."""
    assert set(one) == set(other)
    for name, tensor in one.items():
        if not name.endswith("query_key_value.bias"):
            torch.testing.assert_close(other[name], tensor, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("size", ["16x2", "bert-32x2"])
def test_pieces_make_the_same_plain_step(train, size):
    """For a BERT, too, whose pieces ask for different numbers of tokens."""
    options = {"size": size, "vocabulary": 500}
    if size == "16x2":
        assert_same(train(**options)[0], train(accumulate=4, **options)[0])
        return
    rows = torch.randint(5, 500, (4, 16), generator=torch.Generator().manual_seed(0))
    targets = torch.where(torch.arange(16) < torch.tensor([[9], [1], [4], [2]]), rows, -100)
    gradients = []
    for pieces in (1, 2, 4):
        chosen = settings(accumulate=pieces, **options)
        model = untrained_bert(size, vocabulary=500, context=16).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        loss, _ = p.training_step(model, optimizer, rows, targets, 0.0, chosen)
        gradients.append({"loss": loss} | {name: q.grad for name, q in model.named_parameters()})
    assert_same(gradients[0], gradients[1], atol=1e-6)
    assert_same(gradients[0], gradients[2], atol=1e-6)


@pytest.mark.parametrize(
    ("method", "penalty_in"),
    [
        ("l2e", "backward"),
        pytest.param("l2e", "loss", marks=pytest.mark.slow),
        pytest.param("memel", "loss", marks=pytest.mark.slow),
    ],
)
def test_pieces_are_batches_to_the_inhibitor_and_its_penalty_is_their_mean(train, tmp_path, corpus, method, penalty_in):
    """Against the loop a reader would write: the penalty in the loss, each piece's loss divided by their number."""
    got, state = train(penalty_in=penalty_in, method=method, accumulate=2)
    chosen = settings(method=method, accumulate=2)
    text = p.prepare_text(chosen, tmp_path, corpus=corpus, progress=False)
    model = untrained("16x2", seed=0, vocabulary=len(text.tokenizer), context=16).train()
    penalty, extras = attach_method(chosen, penalty_in="loss")(model)
    optimizer = make_optimizer(model, chosen)
    for step in range(chosen.steps):
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, chosen)
        for piece in range(2):
            inputs, targets = text.training.read(4 * step + 2 * piece, 2)
            logits = model(input_ids=inputs, use_cache=False).logits
            ((F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + penalty()) / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert_same(model.state_dict(), got)
    assert_same(extras["inhibitor"].state_dict(), state, rtol=1e-3)
    assert all(n == 32 for name, n in state.items() if name.endswith("moments.batches"))


@pytest.mark.slow
def test_pieces_select_as_much_as_whole_steps(train):
    """The inhibitor judges every piece by those before it: not the same pairs to the last one, but as many."""
    options = {"method": "l2e", "batch": 32, "share": 0.1}
    whole, pieces = train(**options)[1], train(accumulate=4, **options)[1]
    for name in whole:
        if name.endswith("log_tau"):
            assert whole[name].exp() == pytest.approx(pieces[name].exp().item(), rel=0.25)
        if name.endswith("moments.count"):
            assert pieces[name] == pytest.approx(whole[name].item(), rel=0.1), "as many tokens remembered"


QUICK, REST = ["plain", "l2e"], ["ms", "invariant_log_ms", "memel", "freeze", "mean_replaced", "shrunk", "zeroed"]


@pytest.mark.parametrize("method", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in REST)])
def test_activation_checkpointing_changes_nothing(train, method, monkeypatch):
    calls, forward = [], GPTNeoXMLP.forward
    monkeypatch.setattr(GPTNeoXMLP, "forward", lambda *a: (calls.append(1), forward(*a))[1])
    without, state = train(method=method)
    once = len(calls)
    got, got_state = train(method=method, activation_checkpointing=True)
    assert len(calls) == 2 * once + 2 * 16, "two blocks once more in each of sixteen steps"
    assert_same(without, got)
    assert_same(state, got_state, rtol=1e-3)


@pytest.fixture
def unlimited():
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    yield
    torch._dynamo.config.recompile_limit = limit
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("method", "backend"),
    [
        ("plain", "aot_eager"),
        ("l2e", "aot_eager"),
        ("memel", "aot_eager"),
        ("mean_replaced", "aot_eager"),
        ("l2e", "inductor"),
    ],
)
@pytest.mark.slow
def test_compiled_blocks_train_the_same(train, monkeypatch, method, backend, unlimited):
    without, state = train(method=method)
    monkeypatch.setattr(d, "BACKEND", backend)
    torch._dynamo.utils.counters.clear()
    got, got_state = train(method=method, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1, "nothing was compiled"
    assert_same(without, got, rtol=1e-3, atol=1e-4)
    assert_same(state, got_state, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_all_at_once(train, monkeypatch, unlimited):
    monkeypatch.setattr(d, "BACKEND", "aot_eager")
    without, _ = train(method="l2e", accumulate=2)
    got, _ = train(method="l2e", accumulate=2, activation_checkpointing=True, compile=True)
    assert_same(without, got, rtol=1e-3, atol=1e-4)


def test_fp16_scales_the_loss_and_the_penalty_alike():
    """Of a gradient that is nearly all penalty, the unscaled fp16 one is the fp32 one."""
    found = []
    inputs = torch.randint(0, 300, (4, 16), generator=torch.Generator().manual_seed(0))
    for precision in ("fp32", "fp16"):
        chosen = settings(precision=precision, accumulate=2)
        model = untrained("16x2", vocabulary=300, context=16).train()
        inhibitor = Inhibitor(model, "all", weight=3.0, start_after=0, penalty_in="backward")
        devices = d.Devices(chosen)
        inhibitor.loss_scale = devices.loss_scale
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        for _ in range(2):  # the first makes the moments
            p.training_step(model, optimizer, inputs, inputs, 0.0, chosen, inhibitor.penalty, devices)
        found.append(model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.grad.flatten())
        assert (devices.loss_scale() == 65536 / 2) if precision == "fp16" else (devices.loss_scale() == 1 / 2)
    assert F.cosine_similarity(*found, dim=0) > 0.99
    assert found[1].norm() == pytest.approx(found[0].norm().item(), rel=0.05)


def test_fp16_trains_and_keeps_its_scale(tmp_path, corpus):
    p.pretrain(settings(precision="fp16"), tmp_path, corpus=corpus, progress=False)
    parts = load_checkpoint(tmp_path / "checkpoints/step-00000016")[1]
    assert parts["scaler"]["scale"] == 65536
    fp32 = p.pretrain(settings(), tmp_path / "fp32", corpus=corpus, progress=False)["validation_loss"]
    assert p.read_json(tmp_path / "result.json")["validation_loss"] == pytest.approx(fp32, rel=0.01)
