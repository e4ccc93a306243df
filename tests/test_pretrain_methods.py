"""Every method of `l2e pretrain` does to the model what its name says, and old runs go on without the new settings."""

import json
import random
from types import SimpleNamespace

import pytest
import torch

from l2e_min import Inhibitor, MovingThreshold, TopK
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import untrained_bert
from l2e_min.lab.mini_pythia import load_model, untrained
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.controls import SHRINK, RandomPairs
from l2e_min.lab.training.method_choice import CHANGES, DEACTIVATING, METHODS, PENALTIES, block_numbers
from l2e_min.lab.training.methods import attach_method, chosen_sites, load_run
from l2e_min.lab.training.recipe import PretrainSettings, learning_rate_at, make_optimizer
from l2e_min.sites import find_sites

TINY = {"size": "16x4", "steps": 16, "batch": 4, "context": 16, "log_every": 4, "validate_every": 8, "vocabulary": 300}


def words(n: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(["the", "neuron", "def", "return", "value", "of", "layer", "x"]) for _ in range(n))


@pytest.fixture(scope="module")
def corpus():
    documents = [SimpleNamespace(text=words(200, seed)) for seed in range(12)]
    return SimpleNamespace(name="words", train=documents[:10], validation=documents[10:], fingerprint="f" * 64)


def settings(**changes) -> PretrainSettings:
    return PretrainSettings(**{**TINY, "device": "cpu", "precision": "fp32", **changes})


def train(out, corpus, every=100, attach=None, **changes):
    chosen = settings(**changes)
    return p.pretrain(chosen, out, checkpoint_every=every, attach=attach, corpus=corpus, progress=False)


SLOW_FIXTURES = {"runs"}  # one with each method


@pytest.fixture(scope="module")
def runs(tmp_path_factory, corpus):
    """A finished run of every method: {name: (folder, result)}."""
    folders = {method: tmp_path_factory.mktemp(method) for method in METHODS}
    return {method: (out, train(out, corpus, method=method)) for method, out in folders.items()}


def weights(out) -> dict[str, torch.Tensor]:
    return load_model(out / "model")[0].state_dict()


# ---- names and defaults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["middle-2", "middle-third", "all"])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 12])
def test_places_are_those_of_the_inhibitor(place, n):
    model = untrained(f"16x{n}", vocabulary=64, context=16)
    assert chosen_sites(model, place) == find_sites(model, place)


def test_places_by_hand():
    assert block_numbers("first-2", 6) == [0, 1] and block_numbers("last-2", 6) == [4, 5]
    assert block_numbers("top-bottom", 6) == [0, 5] and block_numbers("top-bottom", 1) == [0]
    assert block_numbers("first-third", 6) == [0, 1] and block_numbers("last-third", 6) == [4, 5]
    assert block_numbers("middle-3", 7) == [2, 3, 4] and block_numbers("0,3,3", 4) == [0, 3]
    assert block_numbers("last-9", 2) == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "no such method: 'magic'; expected one of plain, memel"),
        ({"weight": 0.1}, "method plain has no weight"),
        ({"method": "memel", "weight": 0.1}, "method memel has no weight; these have one: l2e"),
        ({"method": "memel", "share": 0.1}, "memel has no share: retrieval top-1 takes a number"),
        ({"method": "zeroed", "share": 0.1}, "zeroed has no share: it looks for no neurons"),
        ({"method": "l2e", "share": 1.5}, "at most 1, got 1.5"),
        ({"method": "l2e", "share": -0.1}, "share must be above 0"),
        ({"method": "l2e", "weight": -1.0}, "weight must be 0 or more"),
        ({"method": "l2e", "retrieval": "best"}, "retrieval must be threshold, top-share or top-N"),
        ({"method": "memel", "retrieval": "top-0"}, "retrieval must be"),
        ({"method": "random_pairs", "retrieval": "threshold"}, "looks for no neurons; leave out"),
        ({"method": "plain", "retrieval": "threshold"}, "looks for no neurons; leave out"),
        ({"method": "l2e", "layers": "the best"}, "no such layers: 'the best'; expected all, top-bottom"),
        ({"method": "l2e", "layers": "first-0"}, "no such layers"),
        ({"accumulate": 3}, "4 rows cannot be cut into 3 equal pieces"),
    ],
)
def test_bad_choices_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        settings(**changes)


def test_a_block_that_is_not_there_is_named(tmp_path, corpus):
    with pytest.raises(UserError, match="layers 1,7: the model has the blocks 0 to 3"):
        train(tmp_path, corpus, method="l2e", layers="1,7")


def test_what_each_method_runs_with():
    def attached(**changes):
        return attach_method(settings(**changes))(untrained("16x4", vocabulary=300, context=16))[1]["inhibitor"]

    l2e = attached(method="l2e")
    assert (l2e.inhibition, l2e.weight, l2e.penalty_in) == ("log_ms", 0.003, "backward")
    assert isinstance(l2e.retrieval, MovingThreshold) and l2e.retrieval.share == 0.02
    assert [site.name.split(".")[2] for site in l2e.sites] == ["1", "2"]
    assert all(site.name.endswith("mlp.dense_4h_to_h") and site.side == "input" for site in l2e.sites)
    for method, kind in DEACTIVATING.items():
        one = attached(method=method, layers="top-bottom")
        assert one.inhibition == kind and isinstance(one.retrieval, TopK) and one.retrieval.k == 1
        assert [site.name.split(".")[2] for site in one.sites] == ["0", "3"]
    assert attached(method="ms", weight=0.5).weight == 0.5
    assert attached(method="l2e", retrieval="top-share", share=0.1).retrieval.share == 0.1
    assert attached(method="memel", retrieval="top-50").retrieval.k == 50
    assert attached(method="memel", retrieval="threshold", share=0.1).retrieval.share == 0.1
    assert isinstance(attached(method="random_pairs").retrieval, RandomPairs)
    slow = attached(method="l2e", accumulate=4)
    assert slow.start_after == slow.forget_after == 40, "four batches a step: the same number of tokens"


# ---- training ----------------------------------------------------------------------------------------------------


def test_every_method_changes_what_is_learned(runs):
    plain = weights(runs["plain"][0])
    for method in METHODS[1:]:
        _, result = runs[method]
        assert result["settings"]["method"] == method and 0 < result["validation_loss"] < 7
        assert any(not torch.equal(plain[name], tensor) for name, tensor in weights(runs[method][0]).items()), method


@pytest.mark.parametrize("method", ["l2e", "ms", "invariant_log_ms", "memel", "freeze", "straight_through"])
def test_training_is_a_plain_loop_with_an_inhibitor(tmp_path, corpus, runs, method):
    """The loop a reader would write, with the penalty in the loss, ends in the same weights.

    But for the biases of the attention's keys: softmax takes them out again, their gradient is rounding, and Adam makes
    full steps of it.
    """
    chosen = settings(method=method)
    text = p.prepare_text(chosen, tmp_path, corpus=corpus, progress=False)
    model = untrained("16x4", seed=0, vocabulary=len(text.tokenizer), context=16).train()
    kind = {**DEACTIVATING, **PENALTIES}[method]
    retrieval = TopK(1) if method in DEACTIVATING else MovingThreshold(0.02)
    inhibitor = Inhibitor(model, "middle-2", retrieval, kind, weight=0.003)
    optimizer = make_optimizer(model, chosen)
    for step in range(chosen.steps):
        inputs, _ = text.training.read(4 * step, 4)
        _, targets = text.training.read(4 * step, 4)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, chosen)
        logits = model(input_ids=inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) + inhibitor.penalty()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    trained = weights(runs[method][0])
    for name, tensor in model.state_dict().items():
        if not name.endswith("query_key_value.bias"):
            torch.testing.assert_close(trained[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_random_pairs_are_as_many_and_do_not_look_at_phi():
    torch.manual_seed(0)
    phi = torch.linspace(0, 1, 200_000).reshape(-1, 100)
    mask = RandomPairs(0.02)(phi)
    assert mask.float().mean() == pytest.approx(0.02, rel=0.1)
    assert phi[mask].mean() == pytest.approx(0.5, abs=0.02)


# ---- controls ----------------------------------------------------------------------------------------------------


def mlp_outputs(model, ids) -> list[torch.Tensor]:
    """What the MLPs of blocks 1 and 2 give, (rows, tokens, d) each."""
    seen = []
    hooks = [
        model.gpt_neox.layers[block].mlp.register_forward_hook(lambda _m, _i, out: seen.append(out)) for block in (1, 2)
    ]
    with torch.no_grad():
        model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    return seen


IDS = torch.arange(48).reshape(3, 16) % 300


def test_zeroed_mlps_give_nothing(runs):
    outputs = mlp_outputs(load_model(runs["zeroed"][0] / "model")[0], IDS)
    assert not any(out.any() for out in outputs)


def test_mean_replaced_mlps_give_a_constant_that_was_learned(runs):
    outputs = mlp_outputs(load_model(runs["mean_replaced"][0] / "model")[0], IDS)
    assert all((out == out[0, 0]).all() and out.any() for out in outputs)
    assert not torch.equal(outputs[0], outputs[1])


@pytest.mark.parametrize("method", sorted(CHANGES))
def test_a_finished_control_computes_what_was_validated(runs, corpus, method):
    out, result = runs[method]
    model, _ = load_run(out)
    text = p.prepare_text(settings(method=method), out, corpus=corpus, progress=False)
    again = p.validate(model, text, settings(), rows=8 * settings().validation_rows)
    assert again["validation_loss"] == pytest.approx(result["validation_loss"], rel=1e-6)


def test_linear_and_shrunk_do_what_they_say():
    model = untrained("16x4", vocabulary=300, context=16)
    before = mlp_outputs(model, IDS)[0]
    x = torch.randn(5, 16)
    attach_method(settings(method="linear"))(model)
    mlp = model.gpt_neox.layers[1].mlp
    torch.testing.assert_close(mlp(x) + mlp(-x), 2 * mlp(torch.zeros(5, 16)))
    assert not torch.equal(before, mlp_outputs(model, IDS)[0])
    other = untrained("16x4", vocabulary=300, context=16)
    mlp = other.gpt_neox.layers[2].mlp
    expected = mlp.dense_4h_to_h(torch.nn.functional.gelu(SHRINK * mlp.dense_h_to_4h(x)))
    attach_method(settings(method="shrunk"))(other)
    torch.testing.assert_close(mlp(x), expected)
    torch.testing.assert_close(
        other.gpt_neox.layers[0].mlp(x), untrained("16x4", vocabulary=300).gpt_neox.layers[0].mlp(x)
    )


def test_the_running_mean_is_that_of_the_last_batches_and_its_gradient_the_batchs():
    model = untrained("16x4", vocabulary=300, context=16).train()
    own = untrained("16x4", vocabulary=300, context=16).gpt_neox.layers[1].mlp
    _, saved = attach_method(settings(method="mean_replaced"))(model)
    mlp = model.gpt_neox.layers[1].mlp
    batches = [torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    first, second, third = (mlp(x) for x in batches)
    torch.testing.assert_close(first, own(batches[0]).mean((0, 1)).expand(4, 6, 16))  # nothing was there before
    torch.testing.assert_close(second, first)
    both = torch.cat([own(x) for x in batches[:2]]).mean((0, 1))
    torch.testing.assert_close(third, both.expand(4, 6, 16))
    third.sum().backward()
    own(batches[2]).sum().backward()  # every token sends 1/24 of 24 gradients of 1
    torch.testing.assert_close(mlp.dense_h_to_4h.weight.grad, own.dense_h_to_4h.weight.grad)
    assert set(saved) == {"control"}


@pytest.mark.parametrize(
    "method", ["l2e", *(pytest.param(name, marks=pytest.mark.slow) for name in ("memel", *CHANGES))]
)
def test_a_mini_bert_takes_them_too(tmp_path, corpus, method):
    options = {"size": "bert-32x2", "vocabulary": 500, "steps": 4}
    result = train(tmp_path, corpus, method=method, **options)
    assert 0 < result["validation_loss"] < 7
    linear, _ = attach_method(settings(method="linear"))(model := untrained_bert("bert-32x2")), None
    assert linear[0] is None
    assert isinstance(model.bert.encoder.layer[0].intermediate.intermediate_act_fn, torch.nn.Identity)


# ---- old runs ----------------------------------------------------------------------------------------------------

NEW = ("weight", "share", "layers", "retrieval", "accumulate", "activation_checkpointing", "compile")


@pytest.mark.slow
def test_a_run_from_before_these_settings_goes_on(tmp_path, corpus, monkeypatch):
    train(tmp_path / "whole", corpus, every=4)
    step, done = p.training_step, []

    def dying(*arguments):
        done.append(1)
        if len(done) == 10:
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(p, "training_step", dying)
        train(tmp_path / "old", corpus, every=4)
    stored = json.loads((tmp_path / "old" / "settings.json").read_text())
    old = {name: value for name, value in stored.items() if name not in NEW}
    assert len(old) == len(stored) - len(NEW)
    (tmp_path / "old" / "settings.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"another method: the run in .* has 'plain', asked for 'l2e'"):
        train(tmp_path / "old", corpus, method="l2e")
    with pytest.raises(UserError, match=r"another accumulate: the run in .* has 1, asked for 2"):
        train(tmp_path / "old", corpus, accumulate=2)
    train(tmp_path / "old", corpus, every=4)
    assert (tmp_path / "old/model/model.safetensors").read_bytes() == (
        tmp_path / "whole/model/model.safetensors"
    ).read_bytes()
