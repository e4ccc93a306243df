"""Short pretraining for chapter 5: the controls do what they say, the record is made once and goes on after a stop."""

import json
import math

import numpy as np
import pytest
import torch

from l2e_min import Inhibitor
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.toy import pretraining, pretraining_record
from l2e_min.lab.training.blocks import Blocks
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.training_text import TrainingText

SETTINGS = {
    "size": "16x2",
    "steps": 14,
    "batch": 4,
    "context": 16,
    "vocabulary": 64,
    "precision": "fp32",
    "device": "cpu",
}


class SixtyFour:
    """As much of a tokenizer as training asks for."""

    def __len__(self):
        return 64


@pytest.fixture(scope="module")
def text():
    rng = np.random.default_rng(0)
    streams = [np.cumsum(rng.integers(0, 3, 3000)) % 64 for _ in range(2)]
    return TrainingText(SixtyFour(), Blocks(streams[0], 16, 0), Blocks(streams[1], 16), {"fingerprint": "x"})


@pytest.fixture(scope="module")
def settings():
    return PretrainSettings(**SETTINGS, data_seed=0)


@pytest.mark.parametrize("name", pretraining.KINDS)
def test_every_kind_runs(text, settings, name):
    run = pretraining.train(name, 0, text, settings, (0, 14), rows=8)
    assert run["finite"] and len(run["loss"]) == len(run["norm"]) == 14
    assert [look["step"] for look in run["looks"]] == [0, 14]
    assert all(math.isfinite(value) for look in run["looks"] for value in look.values())
    assert (run["weight"] > 0) == bool(pretraining.KINDS[name].form)
    if name == "zeroed":
        assert run["mean_cost"] == 0


def test_same_seed_same_run_and_a_penalty_changes_it(text, settings):
    first, again = (pretraining.train("plain", 1, text, settings, ()) for _ in range(2))
    assert first["loss"] == again["loss"]
    penalised = pretraining.train("log_ms", 1, text, settings, ())
    assert penalised["loss"][:10] == first["loss"][:10]  # the late start
    assert penalised["loss"][-1] != first["loss"][-1]


def test_weights_start_with_equal_gradients(text, settings):
    """The norms of the two penalties' gradients over all parameters, worked out here by themselves."""
    weight = pretraining.equal_weight(settings, text, 0.01)
    norms = {}
    for form in ("log_ms", "ms"):
        model = untrained("16x2", seed=0, vocabulary=64, context=16).train()
        inhibitor = Inhibitor(model, "middle-2", inhibition=form, weight={"log_ms": 0.01, "ms": weight}[form])
        for batch in range(11):
            model(input_ids=text.training.read(batch * 4, 4)[0])
            penalty = inhibitor.penalty()
        gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
        norms[form] = sum(g.square().sum().item() for g in gradients if g is not None) ** 0.5
    assert norms["ms"] == pytest.approx(norms["log_ms"], rel=1e-4) and norms["ms"] > 0


def test_layers_change_as_named():
    ids = torch.arange(12)[None] % 64
    linear, zeroed = (untrained("16x2", seed=0, vocabulary=64, context=16) for _ in range(2))
    pretraining.change_layer(linear, "linear")
    mlp, x = linear.gpt_neox.layers[0].mlp, torch.randn(5, 16)
    torch.testing.assert_close(mlp(x) + mlp(-x), 2 * mlp(torch.zeros(5, 16)))
    pretraining.change_layer(zeroed, "zeroed")
    seen = []
    zeroed.gpt_neox.layers[1].mlp.register_forward_hook(lambda _m, _i, out: seen.append(out))
    zeroed(input_ids=ids)
    assert not seen[0].any()
    with pytest.raises(UserError, match="layer"):
        pretraining.change_layer(zeroed, "cubic")
    with pytest.raises(UserError, match="kind"):
        pretraining.train("lion", 0, None, None, ())


def test_the_record_is_made_once(tmp_path, monkeypatch, text):
    calls = []

    def train(name, seed, *_):
        calls.append((name, seed))
        return {"weight": 0.123456789, "loss": [1.0, math.nan]}

    monkeypatch.setattr(pretraining_record, "BUILD", tmp_path)
    monkeypatch.setattr(pretraining_record, "prepare_text", lambda *_, **__: text)
    monkeypatch.setattr(pretraining_record, "train", train)
    out = tmp_path / "record.json"
    (tmp_path / "toy_pretraining").mkdir()
    pretraining_record.make(out, kinds=("plain",), seeds=(0,), settings=SETTINGS)
    pretraining_record.make(out, kinds=("plain", "ms"), seeds=(0,), settings=SETTINGS)
    assert calls == [("plain", 0), ("ms", 0)]
    record = pretraining_record.read(out)
    assert (
        record["runs"]["plain/0"]
        == {"weight": 0.12346, "loss": [1.0, None]}
        == json.loads(out.read_text())["runs"]["ms/0"]
    )
    pretraining_record.make(out, kinds=("plain",), seeds=(0,), settings=SETTINGS | {"steps": 15})
    assert len(calls) == 3  # other settings: made again
    with pytest.raises(UserError, match="pretraining_record makes it"):
        pretraining_record.read(tmp_path / "nothing.json")


def test_the_shipped_record_is_whole():
    record = pretraining_record.read()
    assert set(record["runs"]) == {f"{name}/{seed}" for name in pretraining.KINDS for seed in (0, 1, 2)}
    steps = record["settings"]["steps"]
    for name, run in record["runs"].items():
        assert run["finite"] and len(run["loss"]) == len(run["norm"]) == steps, name
        assert [look["step"] for look in run["looks"]] == record["look_at"], name
    first = [record["runs"][f"{name}/0"]["loss"][:10] for name in ("plain", "log_ms", "ms", "invariant_log_ms")]
    assert first[0] == first[1] == first[2] == first[3]  # the late start: one weight, one text
