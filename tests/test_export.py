"""The exported model: half the size, the same predictions, and a card that says what the run's record says."""

import json
from types import SimpleNamespace

import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_model
from l2e_min.lab.training.export import command, export_model
from l2e_min.lab.training.pretrain import pretrain
from l2e_min.lab.training.recipe import PretrainSettings

SETTINGS = {"size": "16x1", "steps": 20, "batch": 2, "context": 16, "log_every": 5, "validate_every": 10}


@pytest.fixture(scope="module")
def corpus():
    texts = [SimpleNamespace(text=f"def neuron_{i}(value): return value + {i}\n" * 8) for i in range(12)]
    return SimpleNamespace(name="words", train=texts[:9], validation=texts[9:], fingerprint="ab" * 32)


@pytest.fixture(scope="module")
def run(tmp_path_factory, corpus):
    out = tmp_path_factory.mktemp("run")
    pretrain(PretrainSettings(**SETTINGS, vocabulary=300, device="cpu", seed=7), out, corpus=corpus, progress=False)
    return out


def test_what_is_exported_is_the_model_in_half_precision(run, corpus, tmp_path):
    facts = export_model(run, tmp_path / "out", corpus=corpus)
    trained, tokenizer = load_model(run / "model")
    exported, again = load_model(tmp_path / "out")
    for a, b in zip(trained.parameters(), exported.parameters(), strict=True):
        assert b.dtype == torch.float32 and torch.equal(a.half().float(), b)
    assert tokenizer("def x").input_ids == again("def x").input_ids
    assert facts["exported_validation_loss"] == pytest.approx(facts["validation_loss"], abs=0.01)
    assert (tmp_path / "out" / "training_log.csv").read_bytes() == (run / "training_log.csv").read_bytes()
    assert export_model(run, tmp_path / "out", corpus=corpus) == facts, "an export can be repeated"


def test_the_card_and_the_record_say_the_same(run, corpus, tmp_path):
    facts = export_model(run, tmp_path, corpus=corpus)
    card = (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "training.json").read_text()) == json.loads(json.dumps(facts))
    for part in ("Mini Pythia 16x1", "ab" * 32, f"{facts['validation_loss']:.3f}", f"{facts['parameters']:,}"):
        assert part in card
    assert command(facts["settings"]) in card
    assert str(tmp_path) not in card and str(run) not in card


def test_the_command_gives_the_same_settings_back(run):
    import argparse
    import shlex

    from l2e_min.lab.commands.pretrain import add_arguments

    stored = json.loads((run / "settings.json").read_text())
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = vars(parser.parse_args(shlex.split(command(stored))[2:]))
    names = set(stored) & set(given)
    assert PretrainSettings(**{k: given[k] for k in names}, device="cpu").as_dict() == stored


def test_an_unfinished_run_and_a_strange_folder_are_refused(run, corpus, tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        export_model(tmp_path, tmp_path / "out")
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="something that is not an exported model"):
        export_model(run, tmp_path, corpus=corpus)
