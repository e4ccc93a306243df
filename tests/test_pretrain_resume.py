"""With every method a run that was stopped or killed goes on bit for bit: weights, inhibitor, random numbers, data."""

import hashlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.checkpoint import latest_checkpoint
from l2e_min.lab.training.method_choice import METHODS
from l2e_min.lab.training.recipe import PretrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"size": "16x2", "steps": 18, "batch": 4, "context": 16, "log_every": 6, "validate_every": 18, "vocabulary": 300}


def train(out: Path, corpus, every: int = 5, **changes):
    chosen = PretrainSettings(**{**TINY, "device": "cpu", **changes})
    return p.pretrain(chosen, out, checkpoint_every=every, corpus=corpus, progress=False)


def fingerprints(out: Path) -> dict[str, str]:
    """What two runs must share to the bit: weights, log, and all tensors of the last checkpoints."""
    files = [out / "model" / "model.safetensors", out / "training_log.csv"]
    files += sorted((out / "checkpoints").glob("step-*/*.safetensors"))
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


class Cut(Exception):
    pass


def cut_at(step: int, monkeypatch) -> None:
    """Lets the next run die right before its own step ``step``."""
    whole_step, done = p.training_step, []

    def dying(*arguments):
        done.append(1)
        if len(done) == step:
            raise Cut
        return whole_step(*arguments)

    monkeypatch.setattr(p, "training_step", dying)


OPTIONS = [{"method": "plain"}, {"method": "l2e"}]
MORE = [{"method": method} for method in METHODS if method not in ("plain", "l2e")]
MORE += [
    {"method": "l2e", "accumulate": 2},
    {"method": "random_pairs", "accumulate": 2, "activation_checkpointing": True},
    {"method": "l2e", "precision": "fp16"},
    {"method": "memel", "size": "bert-32x2", "vocabulary": 500},
]


OPTIONS += [pytest.param(changes, marks=pytest.mark.slow) for changes in MORE]


@pytest.mark.parametrize("changes", OPTIONS, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.slow
def test_cut_off_twice_and_resumed_it_ends_in_the_same_bits(tmp_path, corpus, monkeypatch, changes):
    train(tmp_path / "whole", corpus, **changes)
    for step in (9, 8):  # after step 8 (checkpoint 5), after step 12 (checkpoint 10)
        with monkeypatch.context() as patch, pytest.raises(Cut):
            cut_at(step, patch)
            train(tmp_path / "parts", corpus, **changes)
    train(tmp_path / "parts", corpus, **changes)
    assert fingerprints(tmp_path / "whole") == fingerprints(tmp_path / "parts")
    if changes["method"] not in ("plain", "linear", "zeroed", "shrunk"):
        kept = {file.stem for file in latest_checkpoint(tmp_path / "parts/checkpoints").glob("*.safetensors")}
        assert kept & {"inhibitor", "control"}, "the method's state is part of the checkpoint"


def test_the_inhibitors_state_matters(tmp_path, corpus, monkeypatch):
    """The test above could not fail if a run forgot its inhibitor at a stop and nobody saw the difference."""
    train(tmp_path / "whole", corpus, method="l2e", share=0.3, weight=0.1, layers="all")
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_at(17, patch)
        train(tmp_path / "parts", corpus, method="l2e", share=0.3, weight=0.1, layers="all")
    restore = p.Devices.restore
    monkeypatch.setattr(p.Devices, "restore", lambda self, name, *a: name == "inhibitor" or restore(self, name, *a))
    train(tmp_path / "parts", corpus, method="l2e", share=0.3, weight=0.1, layers="all")
    assert fingerprints(tmp_path / "whole") != fingerprints(tmp_path / "parts")


def killed(out: Path, corpus, after: float, own: int, steps: int, every: int) -> int:
    """A child trains in ``out`` and is killed; the last step that it finished, 0 where none.

    It dies ``after`` seconds from its own step number ``own``; 0 is its birth.
    """
    done = out.with_suffix(".done")
    done.write_text("")
    child = os.fork()
    if child == 0:
        try:
            whole_step = p.training_step
            first = latest_checkpoint(out / "checkpoints")
            at = int(first.name.removeprefix("step-")) if first else 0
            file = os.open(done, os.O_WRONLY | os.O_APPEND)

            def noting(*arguments):
                nonlocal at
                found = whole_step(*arguments)
                at += 1
                os.write(file, f"{at}\n".encode())
                return found

            p.training_step = noting
            train(out, corpus, every=every, method="random_pairs", steps=steps, log_every=7, validate_every=700)
        finally:
            os._exit(0)
    end = time.monotonic() + 60
    while len(done.read_text().split()) < own and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    finished = done.read_text().split()
    return int(finished[-1]) if finished else 0


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_loses_only_the_steps_since_the_last_checkpoint(tmp_path, corpus):
    """With pairs drawn at random: that run has an inhibitor, moments, and random numbers to lose."""
    out, every, steps, draw = tmp_path / "parts", 4, 320, random.Random(1)
    moments, before = 0, 0
    for _ in range(20):
        own = draw.choice([0, *range(1, 16)])  # 0 may die while it starts up
        finished = killed(out, corpus, draw.uniform(0, 0.02) if own else draw.uniform(0, 0.5), own, steps, every)
        newest = latest_checkpoint(out / "checkpoints")
        at = int(newest.name.removeprefix("step-")) if newest else 0
        assert at >= before, "a kill took a checkpoint away"
        assert finished - at <= every, f"step {finished} was finished, the newest checkpoint is that of step {at}"
        moments += finished > before
        before = at
    assert moments >= 8, "the kills came too early to prove anything"
    assert before < steps, "the kills came too late to prove anything"
    options = {"every": every, "method": "random_pairs", "steps": steps, "log_every": 7, "validate_every": 700}
    train(out, corpus, **options)
    train(tmp_path / "whole", corpus, **options)
    assert fingerprints(out) == fingerprints(tmp_path / "whole")
