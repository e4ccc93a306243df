"""Pretraining: it learns, its recipe is Pythia's, and killed or stopped it goes on bit for bit."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.blocks import Blocks, encode_stream
from l2e_min.lab.training.recipe import PretrainSettings, learning_rate_at, make_optimizer
from l2e_min.lab.training.run_folder import TrainingLog
from l2e_min.lab.training.stopping import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"size": "16x1", "steps": 30, "batch": 4, "context": 16, "log_every": 5, "validate_every": 10, "vocabulary": 300}


def words(n: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(["the", "neuron", "def", "return", "value", "of", "layer", "x"]) for _ in range(n))


@pytest.fixture(scope="module")
def corpus():
    documents = [SimpleNamespace(text=words(200, seed)) for seed in range(12)]
    return SimpleNamespace(name="words", train=documents[:10], validation=documents[10:], fingerprint="f" * 64)


def settings(**changes) -> PretrainSettings:
    return PretrainSettings(**{**TINY, "device": "cpu", **changes})


def train(out, corpus, every=7, **changes):
    return p.pretrain(settings(**changes), out, checkpoint_every=every, corpus=corpus, progress=False)


def fingerprints(out: Path) -> dict[str, str]:
    """What two runs must share to the bit: weights, log, and the last checkpoint's tensors."""
    files = [out / "model" / "model.safetensors", out / "training_log.csv"]
    files += sorted((out / "checkpoints").glob("step-*/*.safetensors"))
    return {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus):
    out = tmp_path_factory.mktemp("whole")
    return out, train(out, corpus)


@pytest.mark.slow
def test_it_learns(whole, corpus, tmp_path):
    _, result = whole
    longer = train(tmp_path, corpus, steps=150)
    unigram = np.log(8)  # eight words, equally likely, most of one token: the source's own entropy bounds the loss
    assert longer["validation_loss"] < result["validation_loss"] < np.log(300)
    assert longer["validation_loss"] < 1.25 * unigram


def test_bits_per_byte_is_the_loss_in_other_units(whole, corpus):
    out, result = whole
    from l2e_min.lab.mini_pythia import load_model

    _, tokenizer = load_model(out / "model")
    texts = [d.text for d in corpus.validation]
    n_bytes, n_tokens = sum(len(t.encode()) for t in texts), sum(len(tokenizer(t).input_ids) + 1 for t in texts)
    by_hand = result["validation_loss"] * n_tokens / n_bytes / np.log(2)
    assert result["validation_bits_per_byte"] == pytest.approx(by_hand, rel=1e-9)


def test_validation_is_the_plain_mean_over_tokens(whole, corpus):
    out, _ = whole
    text = p.prepare_text(settings(), out, corpus=corpus, progress=False)
    model = untrained("16x1", vocabulary=len(text.tokenizer), context=16)
    got = p.validate(model, text, settings(precision="fp32"), rows=6)["validation_loss"]
    inputs, targets = text.validation.rows(text.validation.spread(6))
    with torch.no_grad():
        logits = model(input_ids=inputs).logits.double()
    by_hand = -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean().item()
    assert got == pytest.approx(by_hand, rel=1e-5)


def run_killed_at(step: int, out: Path, corpus) -> None:
    """A child trains in ``out`` (going on with what is there) and is killed right before its own step ``step``."""
    child = os.fork()
    if child == 0:
        steps = 0
        whole_step = p.training_step

        def deadly(*args, **kwargs):
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole_step(*args, **kwargs)

        p.training_step = deadly
        try:
            train(out, corpus)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    "kills", [(8, 5, 9), *(pytest.param(kills, marks=pytest.mark.slow) for kills in [(3,), (25,), (29, 1, 1)])]
)
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path, corpus, whole, kills):
    for step in kills:
        run_killed_at(step, tmp_path, corpus)
    train(tmp_path, corpus)
    assert fingerprints(tmp_path) == fingerprints(whole[0])


def test_the_log_has_every_line_once(whole):
    lines = (whole[0] / "training_log.csv").read_text().splitlines()
    assert lines[0].startswith("step,tokens,loss,learning_rate,gradient_norm,validation_loss")
    assert [int(line.split(",")[0]) for line in lines[1:]] == [5, 10, 15, 20, 25, 30]
    assert [line.split(",")[5] != "" for line in lines[1:]] == [False, True, False, True, False, True]
    assert int(lines[-1].split(",")[1]) == 30 * 4 * 16


@pytest.mark.slow
def test_what_an_inhibitor_adds_is_saved_and_resumed(tmp_path, corpus):
    """A penalty with a state and its own random numbers: resumed it must go on the same, and it must matter."""

    class Noisy(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.weights = [next(model.parameters())]

        def penalty(self):
            self.calls += 1
            return 0.1 * torch.rand(()) * self.calls * (self.weights[0] ** 2).mean()

    def attach(model):
        noisy = Noisy(model)
        return noisy.penalty, {"inhibitor": noisy}

    def go(out, stop_at=None):
        original = p.training_step
        done = 0

        def stopping(*args):
            nonlocal done
            done += 1
            if done == stop_at:
                os.kill(os.getpid(), signal.SIGINT)
            return original(*args)

        p.training_step = stopping
        try:
            return p.pretrain(settings(), out, checkpoint_every=7, attach=attach, corpus=corpus, progress=False)
        finally:
            p.training_step = original

    go(tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        go(tmp_path / "parts", stop_at=10)
    assert stop.value.step == 10 and stop.value.status == 130
    go(tmp_path / "parts")
    assert fingerprints(tmp_path / "whole") == fingerprints(tmp_path / "parts")
    train(tmp_path / "plain", corpus)
    weights = "model/model.safetensors"
    assert fingerprints(tmp_path / "whole")[weights] != fingerprints(tmp_path / "plain")[weights]


def test_a_finished_run_is_left_alone(whole, corpus):
    before = fingerprints(whole[0])
    assert train(whole[0], corpus) == whole[1]
    assert fingerprints(whole[0]) == before


def test_other_settings_in_the_same_folder_are_refused(whole, corpus):
    with pytest.raises(UserError, match=r"another learning_rate: the run in .* has 0.004, asked for 0.5"):
        train(whole[0], corpus, learning_rate=0.5)


def test_other_text_under_a_checkpoint_is_refused(tmp_path, corpus):
    run_killed_at(10, tmp_path, corpus)
    other = SimpleNamespace(**{**vars(corpus), "fingerprint": "0" * 64})
    with pytest.raises(UserError, match="fingerprint was f"):
        train(tmp_path, other)


def test_too_little_text_is_refused(tmp_path, corpus):
    short = SimpleNamespace(**{**vars(corpus), "validation": [SimpleNamespace(text="x")]})
    with pytest.raises(UserError, match=r"validation text .* has 2 tokens; expected more than the context of 16"):
        train(tmp_path, short)


def test_the_order_of_the_text_depends_on_the_seed_alone():
    stream = np.arange(1001, dtype=np.uint16)
    blocks, again, other = Blocks(stream, 10, seed=1), Blocks(stream, 10, seed=1), Blocks(stream, 10, seed=2)
    by_eight = torch.cat([blocks.read(at, 8)[0] for at in range(0, 200, 8)])
    by_five = torch.cat([again.read(at, 5)[0] for at in range(0, 200, 5)])
    assert torch.equal(by_eight, by_five) and not torch.equal(by_eight, other.read(0, 200)[0])
    first, second = by_eight[:100, 0].tolist(), by_eight[100:, 0].tolist()
    assert sorted(first) == sorted(second) == list(range(0, 1000, 10)) and first != second
    inputs, targets = blocks.read(0, 3)
    assert torch.equal(inputs[:, 1:], targets[:, :-1]) and torch.equal(targets[:, 0], inputs[:, 0] + 1)


def test_documents_are_set_apart_by_the_end_of_text(whole, corpus):
    from l2e_min.lab.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(whole[0] / "tokenizer")
    stream = encode_stream(tokenizer, ["def x", "layer", ""], cache=False)
    assert (stream == 0).sum() == 3 and stream[-1] == 0
    assert tokenizer.decode(stream[stream != 0].tolist()) == "def xlayer"


def test_the_learning_rate_rises_and_falls_as_the_recipe_says():
    s = PretrainSettings(size="32x2", steps=10000, learning_rate=1.0)
    rates = np.array([learning_rate_at(step, s) for step in range(10000)])
    assert rates[99] == 1.0 and rates.argmax() == 99, "1 % of the steps are warm-up"
    assert np.allclose(np.diff(rates[:100]), 0.01) and (np.diff(rates[99:]) < 0).all()
    assert rates[-1] == pytest.approx(0.1) and rates[100 + 4949] == pytest.approx(0.55, abs=1e-3)
    assert learning_rate_at(19, PretrainSettings(steps=100, learning_rate=1.0)) == 1.0, "at least 20 steps"
    assert learning_rate_at(2, PretrainSettings(steps=3, learning_rate=1.0)) == 1.0, "shorter than its warm-up"


def test_weight_decay_leaves_biases_and_norms_alone():
    model = untrained("32x2")
    decayed = {id(q) for g in make_optimizer(model, settings()).param_groups if g["weight_decay"] for q in g["params"]}
    for name, parameter in model.named_parameters():
        is_matrix = "norm" not in name and not name.endswith("bias")
        assert (id(parameter) in decayed) == is_matrix, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "no such method: 'magic'"),
        ({"size": "big"}, "no such size: 'big'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"precision": "fp8"}, "precision must be one of auto, bf16, fp16, fp32, got 'fp8'"),
        ({"learning_rate": float("nan")}, "learning_rate must be 0 or more"),
        ({"validate_every": 7}, r"validate_every \(7\) must be a multiple of log_every \(5\)"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        settings(**changes)


def test_a_log_shorter_than_its_checkpoint_is_refused(tmp_path):
    log = TrainingLog(tmp_path / "log.csv")
    log.truncate(0)
    with pytest.raises(UserError, match="shorter than its checkpoint"):
        log.truncate(10_000)


def test_a_divergent_run_says_so(tmp_path, corpus, monkeypatch):
    step = p.training_step
    monkeypatch.setattr(p, "training_step", lambda *a: (step(*a)[0] * float("nan"), torch.tensor(1.0)))
    with pytest.raises(UserError, match="a lower --learning-rate may help"):
        train(tmp_path, corpus)


# ---- the command line, in processes of its own -------------------------------------------------------------------

DRIVER = """
import argparse, sys
from l2e_min.lab.commands import pretrain
from l2e_min.lab.errors import UserError
parser = argparse.ArgumentParser()
pretrain.add_arguments(parser)
try:
    sys.exit(pretrain.run(parser.parse_args()))
except UserError as error:
    sys.exit(f"l2e: {error}")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small folder of text files, as a user has it."""
    pytest.importorskip("l2e_min.lab.text.corpus")
    folder = tmp_path_factory.mktemp("texts")
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(words(150, number) + f" {number}\n")
    return folder


def command(folder: Path, out: Path, *more: str, steps: int = 60) -> list[str]:
    tiny = "--size 16x1 --batch 4 --context 16 --log-every 5 --validate-every 10 --vocabulary 300 --device cpu --quiet"
    start = ["--text", str(folder), "--steps", str(steps), *tiny.split()] if "--resume" not in more else []
    return [sys.executable, "-c", DRIVER, *start, "--out", str(out), "--checkpoint-every", "3", *more]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "L2E_BUILD": str(tmp_path / "build"), "HF_HUB_OFFLINE": "1"}


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


@pytest.mark.slow
def test_the_command_killed_at_random_moments_ends_in_the_same_bits(tmp_path, folder):
    env = environment(tmp_path)
    steps = 900
    straight = subprocess.run(command(folder, tmp_path / "whole", steps=steps), env=env, capture_output=True, text=True)
    assert straight.returncode == 0, straight.stderr
    out, draw, killed = tmp_path / "parts", random.Random(0), 0
    arguments = command(folder, out, steps=steps)
    for _ in range(4):
        already = {f.name for f in (out / "checkpoints").glob("step-*")}
        process = subprocess.Popen(arguments, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(lambda seen=already: {f.name for f in (out / "checkpoints").glob("step-*")} - seen, process)
        time.sleep(draw.uniform(0, 0.5))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        arguments = command(folder, out, "--resume")
    assert killed >= 3, "the kills came too late to prove anything"
    last = subprocess.run(arguments, env=env, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert fingerprints(out) == fingerprints(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_go_on_and_the_settings_are_held_to(tmp_path, folder):
    env, out = environment(tmp_path), tmp_path / "run"
    process = subprocess.Popen(
        command(folder, out, steps=100_000), env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: list((out / "checkpoints").glob("step-*")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume" in errors and str(out) in errors and "Traceback" not in errors

    def refused(*arguments) -> str:
        done = subprocess.run(arguments, env=env, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith("l2e: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    again = [sys.executable, "-c", DRIVER, "--out", str(out)]
    assert "another learning_rate" in refused(*again, "--resume", "--learning-rate", "0.5")
    assert "another size: the run" in refused(*again, "--resume", "--size", "32x2")
    assert "is not empty; add --resume" in refused(*again)
    assert "nothing to resume" in refused(*again[:-1], str(tmp_path / "other"), "--resume")
    assert "plain has no weight" in refused(*again[:-1], str(tmp_path / "other"), "--weight", "0.1")
    assert not (tmp_path / "other").exists()
