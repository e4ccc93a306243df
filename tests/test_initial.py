"""``--initial``: a run that goes on from a trained model, and what is said where the model does not fit."""

import json
import random
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import test_hub
import torch
from hub_standin import Hub
from test_pretrain_resume import TINY, Cut, cut_at, fingerprints, train

from l2e_min.lab import cli
from l2e_min.lab.commands.pretrain import settings_to_resume
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_model, untrained
from l2e_min.lab.tokenizer import train_tokenizer
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.training_text import prepare_text

pytestmark = pytest.mark.usefixtures("one_thread")

ONE = {"steps": 1, "log_every": 1, "validate_every": 1, "precision": "fp32"}
"""A run whose log says the loss of its first batch, and whose learning rate is a twentieth of the peak."""


@pytest.fixture(scope="module")
def first(tmp_path_factory, corpus):
    """The folder of a trained model, 18 steps from random weights."""
    out = tmp_path_factory.mktemp("first")
    train(out, corpus, learning_rate=0.02)
    return out / "model"


@pytest.fixture(scope="module")
def other():
    """Other text than the first run's, of which another tokenizer would be made."""
    documents = [SimpleNamespace(text=f"return of the layers {number} neurons " * 60) for number in range(6)]
    return SimpleNamespace(name="other", train=documents[:4], validation=documents[4:], fingerprint="e" * 64)


def first_loss(out) -> float:
    """The loss of a run's first batch, as its log has it."""
    heading, line = (out / "training_log.csv").read_text().splitlines()[:2]
    return float(dict(zip(heading.split(","), line.split(","), strict=True))["loss"])


def loss_of(model, inputs, targets) -> float:
    """Nats a token, float64."""
    with torch.no_grad():
        logits = model(input_ids=inputs).logits.double()
    return -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean().item()


def test_it_begins_with_the_loss_of_the_trained_model(tmp_path, first, other):
    result = train(tmp_path, other, initial=str(first), learning_rate=1e-5, **ONE)
    settings = PretrainSettings(**{**TINY, **ONE, "device": "cpu", "initial": str(first)})
    inputs, targets = prepare_text(settings, tmp_path, corpus=other, progress=False).training.read(0, 4)
    trained, _ = load_model(first)
    assert first_loss(tmp_path) == pytest.approx(loss_of(trained, inputs, targets), abs=2e-6)
    drawn = untrained("16x2", seed=0, vocabulary=trained.config.vocab_size, context=16)
    assert abs(first_loss(tmp_path) - loss_of(drawn, inputs, targets)) > 0.1, "the training before must show"
    after, _ = load_model(tmp_path / "model")
    moved = [(a - b).abs().max().item() for a, b in zip(after.parameters(), trained.parameters(), strict=True)]
    assert 0 < max(moved) < 2e-5, "one step at so small a rate"
    assert result["settings"]["initial"] == str(first)


def test_the_tokenizer_is_the_models_own(tmp_path, first, other):
    train(tmp_path / "own", other, initial=str(first), **ONE)
    kept = (tmp_path / "own" / "tokenizer" / "tokenizer.json").read_text()
    assert json.loads(kept) == json.loads((first / "tokenizer.json").read_text())
    train(tmp_path / "drawn", other, **ONE)  # without a model one is trained, and here it is another
    assert json.loads(kept) != json.loads((tmp_path / "drawn" / "tokenizer" / "tokenizer.json").read_text())


def test_a_tokenizer_may_lie_elsewhere(tmp_path, first, corpus):
    """As it does for a shipped suite, whose models share one."""
    bare = shutil.copytree(first, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    train(tmp_path / "run", corpus, initial=str(bare), tokenizer=str(first), **ONE)
    train(tmp_path / "beside", corpus, initial=str(first), **ONE)
    assert first_loss(tmp_path / "run") == first_loss(tmp_path / "beside")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "l2e"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"method": "memel"}, marks=pytest.mark.slow),
    ],
    ids=["l2e", "plain", "memel"],
)
def test_cut_off_and_resumed_it_ends_in_the_same_bits(tmp_path, first, corpus, monkeypatch, changes):
    train(tmp_path / "whole", corpus, initial=str(first), **changes)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_at(14, patch)
        train(tmp_path / "parts", corpus, initial=str(first), **changes)
    train(tmp_path / "parts", corpus, initial=str(first), **changes)
    assert fingerprints(tmp_path / "whole") == fingerprints(tmp_path / "parts")


def test_a_run_from_before_there_was_an_initial_goes_on(tmp_path, corpus, monkeypatch):
    train(tmp_path / "whole", corpus)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_at(9, patch)
        train(tmp_path / "parts", corpus)
    file = tmp_path / "parts" / "settings.json"
    settings = json.loads(file.read_text())
    assert settings.pop("initial") == ""
    file.write_text(json.dumps(settings))
    assert settings_to_resume(tmp_path / "parts", {}).initial == "", "what --resume of the command reads"
    with pytest.raises(UserError, match=r"cannot resume with another initial: the run in .* has '', asked for 'x'"):
        train(tmp_path / "parts", corpus, initial="x", tokenizer="train")
    train(tmp_path / "parts", corpus)
    assert fingerprints(tmp_path / "whole") == fingerprints(tmp_path / "parts")


# ---- as a reader calls it ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of text files, of the words that the first run has read."""
    draw = random.Random(1)
    folder = tmp_path_factory.mktemp("texts")
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(" ".join(draw.choices(["the", "neuron", "def", "return", "x"], k=150)))
    return folder


QUICK = ("--steps", "2", "--batch", "2", "--log-every", "1", "--validate-every", "2", "--precision", "fp32",
         "--device", "cpu", "--quiet")  # fmt: skip


def pretrain(capsys, texts, out, *words) -> tuple[int, str]:
    """(status, standard error) of ``l2e pretrain``."""
    status = cli.main(["pretrain", "--text", str(texts), "--out", str(out), *QUICK, *map(str, words)])
    return status, capsys.readouterr().err


def test_the_command_goes_on_from_a_folder(tmp_path, capsys, texts, first):
    words = ("--size", "16x2", "--context", "16", "--learning-rate", "1e-5")
    assert pretrain(capsys, texts, tmp_path / "on", *words, "--initial", first) == (0, "")
    assert pretrain(capsys, texts, tmp_path / "new", *words, "--tokenizer", first) == (0, "")
    losses = [json.loads((tmp_path / run / "result.json").read_text())["validation_loss"] for run in ("on", "new")]
    assert losses[1] - losses[0] > 0.1
    assert np.log(300) > losses[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", "16x1"), "has num_hidden_layers 2, 16x1 with this tokenizer and context has 1; give --size"),
        (("--size", "32x2"), "has hidden_size 16, 32x2 with this tokenizer and context has 32"),
        (("--size", "16x2", "--context", "8"), "has max_position_embeddings 16, 16x2 .* has 8; give .* --context"),
        (("--size", "16x2", "--tokenizer", "train", "--vocabulary", "258"), "has vocab_size [0-9]+, 16x2 .* has 258"),
        (("--size", "bert-32x2"), "initial is for a Pythia; a BERT is trained further by l2e finetune"),
        (("--size", "16x2", "--initial", "nowhere"), "no tokenizer.json in nowhere: expected a folder with one"),
        (("--size", "16x2", "--initial", "nowhere", "--tokenizer", "train"), "no model in nowhere: expected a folder"),
    ],
)
def test_a_model_that_does_not_fit_is_named_in_one_line(tmp_path, capsys, texts, first, words, message):
    words = ("--initial", first, "--context", "16", *words)
    status, said = pretrain(capsys, texts, tmp_path / "run", *words)
    assert status == 2 and said.count("\n") == 1 and "Traceback" not in said, said
    assert re.search(message, said), said


def test_a_bert_is_no_beginning_of_a_pythia(tmp_path, capsys, texts):
    from finetune_data import tiny_bert

    bert = tiny_bert(tmp_path / "bert")
    status, said = pretrain(capsys, texts, tmp_path / "run", "--size", "16x2", "--initial", bert)
    assert status == 2 and "model_type bert, 16x2" in said.splitlines()[-1]


# ---- from the hub --------------------------------------------------------------------------------------------------


SLOW_FIXTURES = {"hub", "caller"}  # a process with the Hugging Face libraries


@pytest.fixture(scope="module")
def hub():
    files, weights = test_hub.tiny_pythia(0)
    words = train_tokenizer([" ".join(map(str, range(300)))] * 9, 300)  # as many entries as the model has
    files["tokenizer.json"] = words.backend_tokenizer.to_str().encode()
    hub = Hub({test_hub.PYTHIA_70M: {"main": files}}, {})
    hub.weights = weights
    yield hub
    hub.stop()


CALL = """
def initial(size, name):
    from l2e_min.lab.training.initial import first_model
    from l2e_min.lab.training.recipe import PretrainSettings
    settings = PretrainSettings(size=size, initial=name, device="cpu")
    return {"weights": digests(first_model(settings, 300)), "tokenizer": settings.tokenizer}

"""


@pytest.fixture(scope="module")
def caller(hub, home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_hub, "CALLER", test_hub.CALLER.replace("\nout = os.fdopen", CALL + "\nout = os.fdopen"))
        caller = test_hub.Caller(hub, home)
    yield caller
    caller.close()


def test_a_model_of_the_hub_online_and_from_the_cache(tmp_path, hub, caller, texts, request):
    name = f"hub:{test_hub.PYTHIA_70M}"
    found = caller.value("initial", "32x2", name)
    assert found == {"weights": hub.weights, "tokenizer": name}
    words = ["pretrain", "--size", "32x2", "--initial", name, "--text", str(texts), *QUICK]
    status, _, said = caller.value("l2e", *words, "--out", str(tmp_path / "online"))
    assert status == 0, said
    served = hub.repositories["models"][test_hub.PYTHIA_70M]["main"]["tokenizer.json"]
    kept = json.loads((tmp_path / "online" / "tokenizer" / "tokenizer.json").read_text())
    assert all(kept["model"][name] == json.loads(served)["model"][name] for name in ("vocab", "merges"))
    # The real name of a size: the stand-in's model is smaller than it, which is said.
    assert "has hidden_size 32, pythia-70m" in caller.user_error("initial", "pythia-70m", name)
    assert "no such name" in caller.user_error("initial", "32x2", "hub:someone/none")
    request.getfixturevalue("gone")
    assert caller.value("l2e", *words, "--out", str(tmp_path / "offline"))[0] == 0
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("online", "offline")]
    assert weights[0] == weights[1]
