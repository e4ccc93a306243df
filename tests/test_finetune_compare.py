"""A comparison goes on where it was stopped, refuses what does not belong to it, and is shared by processes."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import accelerate
import pytest
from finetune_data import planted_task, tiny_bert

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning import compare as c
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.protocol import Protocol, find, unique
from l2e_min.lab.finetuning.run import FineTuneSettings

PROTOCOL = Protocol(
    methods=("plain", "memel", "memel_tune"), rates=(1e-2, 1e-3 / 3), seeds=(0, 1), trials=2, extra=("random", "entry")
)
TASKS = [planted_task("one", train=20), planted_task("two", train=22)]


def number(task, settings, what) -> float:
    """A score that hangs on the run alone."""
    digest = hashlib.sha256(json.dumps([task.name, settings.key(), what]).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * 100


class Runs:
    """Stands in for ``fine_tune``: keeps what was asked for, trains nothing, and is killed at its n-th run."""

    def __init__(self, killed_at=None):
        self.asked, self.killed_at = [], killed_at

    def __call__(self, task, model, settings, *, progress=False):
        if len(self.asked) == self.killed_at:
            raise KeyboardInterrupt
        self.asked.append((task.name, settings))
        scores = {what: number(task, settings, what) for what in ("dev", "test")}
        shares = {"encoder.layer.1": SimpleNamespace(share=SimpleNamespace(item=lambda: 0.25))}
        inhibitor = None if settings.method.name == "plain" else SimpleNamespace(states=shares)
        return SimpleNamespace(scores=scores, curve={"step": [1], "loss": [0.5]}, inhibitor=inhibitor)


@pytest.fixture()
def runs(monkeypatch):
    runs = Runs()
    monkeypatch.setattr(c, "fine_tune", runs)
    return runs


def compare(out, tasks=TASKS, model="nowhere/tiny", protocol=PROTOCOL):
    return c.compare(tasks, model, protocol, out, progress=False)


def as_set(rows) -> set[str]:
    return {json.dumps(row, sort_keys=True) for row in rows}


def test_every_run_of_the_protocol_is_made_once(tmp_path, runs):
    rows = compare(tmp_path / "new" / "folder")
    assert len(rows) == len(runs.asked) == len(as_set(rows))
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task.name]
        wanted = PROTOCOL.first_runs() + [s for group in PROTOCOL.reported(mine).values() for s in group]
        assert len(unique(wanted)) == len(mine)
        for settings in wanted:
            row = find(mine, settings)
            assert row["dev"] == pytest.approx(number(task, settings, "dev"), rel=1e-4)
            assert row["share_by_layer"] == ({} if row["method"] == "plain" else {"encoder.layer.1": 0.25})
            assert row["rows"] == [len(task.train), 48, 96] and row["texts"] == c.fingerprint(task)
    first = [settings for name, settings in runs.asked if name == "one"][: len(PROTOCOL.first_runs())]
    assert first == PROTOCOL.first_runs(), "what chooses comes first"


def test_a_second_call_makes_no_run(tmp_path, runs):
    rows = compare(tmp_path)
    before = (tmp_path / "runs.jsonl").read_bytes()
    runs.asked.clear()
    assert compare(tmp_path) == rows and runs.asked == []
    assert (tmp_path / "runs.jsonl").read_bytes() == before


def test_more_seeds_tasks_or_methods_add_their_runs_alone(tmp_path, runs):
    compare(tmp_path, TASKS[:1], protocol=replace(PROTOCOL, methods=("plain",), extra=(), seeds=(0,)))
    assert len(runs.asked) == 2
    compare(tmp_path, TASKS[:1], protocol=replace(PROTOCOL, methods=("plain",), extra=()))
    assert len(runs.asked) == 3 and runs.asked[-1][1].seed == 1
    compare(tmp_path)
    assert len(runs.asked) == len(set(map(str, runs.asked)))


@pytest.mark.parametrize("killed_at", [0, 1, 7, 12])
def test_stopped_at_any_run_it_goes_on_there(tmp_path, monkeypatch, runs, killed_at):
    whole = compare(tmp_path / "whole")
    stopped = Runs(killed_at)
    monkeypatch.setattr(c, "fine_tune", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "stopped")
    stopped.killed_at = None
    assert compare(tmp_path / "stopped") == whole
    assert len(stopped.asked) == len(whole), "and nothing twice"


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_line_that_a_kill_has_cut_is_made_again(tmp_path, runs, cut):
    rows = compare(tmp_path)
    whole = (tmp_path / "runs.jsonl").read_bytes()
    (tmp_path / "runs.jsonl").write_bytes(whole[:-cut])
    runs.asked.clear()
    assert compare(tmp_path) == rows and len(runs.asked) == 1
    assert (tmp_path / "runs.jsonl").read_bytes() == whole


def test_other_texts_under_the_name_are_refused(tmp_path, runs):
    compare(tmp_path)
    task = TASKS[0]
    others = {
        "text": replace(task, test=replace(task.test, first=("other", *task.test.first[1:]))),
        "label": replace(task, dev=replace(task.dev, labels=1 - task.dev.labels)),
        "rows": replace(task, train=task.train.take(range(19))),
        "pairs": replace(task, train=replace(task.train, second=task.train.first)),
    }
    assert len({c.fingerprint(t) for t in (task, *others.values())}) == 5
    for other in others.values():
        with pytest.raises(UserError, match=r"the texts of one are not those .*; choose another folder"):
            compare(tmp_path, [other])
    assert len(runs.asked) == len(c.read_rows(tmp_path))


def test_another_model_or_recipe_is_refused(tmp_path, runs):
    compare(tmp_path)
    with pytest.raises(UserError, match=r"was measured with another model \('tiny', now 'other'\): choose another"):
        compare(tmp_path, model="nowhere/other")
    for change in ({"epochs": 4}, {"batch": 8}, {"head": "cls"}, {"precision": "bf16"}, {"clip": 2.0}):
        protocol = replace(PROTOCOL, base=FineTuneSettings(**change))
        with pytest.raises(UserError, match="was measured with another settings"):
            compare(tmp_path, protocol=protocol)
    compare(tmp_path, model="elsewhere/tiny")


def test_other_weights_in_a_folder_of_the_same_name_are_refused(tmp_path, runs):
    """`l2e pretrain` calls every model's folder "model"."""
    folders = []
    for name in "ab":
        folders.append(tmp_path / name / "model")
        folders[-1].mkdir(parents=True)
        (folders[-1] / "model.safetensors").write_bytes(name.encode() * 99)
    compare(tmp_path / "out", model=str(folders[0]))
    with pytest.raises(
        UserError, match=r"the runs in .*out are of another model under the name .*b/model; choose another"
    ):
        compare(tmp_path / "out", model=str(folders[1]))
    runs.asked.clear()
    compare(tmp_path / "out", model=str(folders[0]))
    assert runs.asked == []


def test_rows_from_before_weights_were_kept_are_gone_on_with(tmp_path, runs):
    rows = compare(tmp_path)
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    old = [lines[0], *(json.dumps({k: v for k, v in json.loads(line).items() if k != "weights"}) for line in lines[1:])]
    (tmp_path / "runs.jsonl").write_text("\n".join(old) + "\n")
    runs.asked.clear()
    assert len(compare(tmp_path)) == len(rows) and runs.asked == []


def test_what_cannot_be_read_is_said(tmp_path, runs):
    with pytest.raises(UserError, match=r"no runs.jsonl in .*; make it with: l2e finetune --out"):
        c.read_rows(tmp_path)
    compare(tmp_path)
    lines = (tmp_path / "runs.jsonl").read_text().split("\n")
    (tmp_path / "runs.jsonl").write_text("\n".join([*lines[:3], "{broken", *lines[4:]]))
    with pytest.raises(UserError, match=r"line 4 of .*runs.jsonl is broken; delete it, and that run is made again"):
        compare(tmp_path)


# --- many processes


class Shared:
    """Stands in for accelerate's state of one of two processes, here threads."""

    def __init__(self):
        self.barrier, self.index = threading.Barrier(2, timeout=30), threading.local()

    def state(self, cpu):
        return SimpleNamespace(
            process_index=self.index.value, num_processes=2, wait_for_everyone=lambda: self.barrier.wait()
        )


@pytest.mark.parametrize("slow", [0, 1])
def test_two_that_share_make_every_run_once_however_late_one_is(tmp_path, monkeypatch, runs, slow):
    """One reads the folder when the other could have finished runs by then: both must still deal them out alike."""
    shared, errors, found = Shared(), [], {}
    read = c.read_rows

    def late(out):
        if shared.index.value == slow:
            time.sleep(0.3)
        return read(out)

    def work(index):
        shared.index.value = index
        try:
            found[index] = compare(tmp_path / "two")
        except BaseException as error:
            errors.append(error)
            shared.barrier.abort()

    monkeypatch.setattr(c, "read_rows", late)
    monkeypatch.setattr(accelerate, "PartialState", shared.state)
    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    asked = len(runs.asked)
    monkeypatch.undo()
    monkeypatch.setattr(c, "fine_tune", Runs())
    alone = compare(tmp_path / "one")
    assert as_set(found[0]) == as_set(found[1]) == as_set(alone) and asked == len(alone)
    assert compare(tmp_path / "two") and len(c.fine_tune.asked) == asked, "one process goes on with what two have made"
    assert sorted(file.name for file in (tmp_path / "two").glob("*")) == ["runs-1.jsonl", "runs.jsonl"]


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(tmp_path):
    model = tiny_bert(tmp_path / "tiny")
    folder = tmp_path / "signs"
    folder.mkdir()
    task = planted_task(train=24)
    for name, part in (("train", task.train), ("dev", task.dev), ("test", task.test)):
        lines = [f"{text}\t{label}" for text, label in zip(part.first, part.labels, strict=True)]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")
    command = ["-m", "l2e_min", "finetune", "--model", model, "--task-dir", str(folder), "--method", "plain", "memel",
               "--seeds", "2", "--rates", "0.01", "--epochs", "1", "--batch", "2", "--device", "cpu",
               "--quiet"]  # fmt: skip
    # accelerate launch starts one process where there is no GPU, whatever --num_processes says; torchrun starts two.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, way in (("one", []), ("two", launch)):
        run = subprocess.run(
            [sys.executable, *way, *command, "--out", str(tmp_path / name)],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
    one, two = (c.read_rows(tmp_path / name) for name in ("one", "two"))
    assert as_set(one) == as_set(two) and len(one) == len(two) == 4
    assert len((tmp_path / "two" / "runs-1.jsonl").read_text().splitlines()) == 3, "a header, a run of each step"


def test_a_run_is_told_by_its_method(tmp_path, runs):
    """Equal but for one setting of the method: both are made."""
    for k in (1, 5):
        base = FineTuneSettings(method=Method(k=k))
        compare(
            tmp_path, TASKS[:1], protocol=Protocol(methods=("memel",), rates=(1e-2,), seeds=(0,), extra=(), base=base)
        )
    assert [settings.method.k for _, settings in runs.asked] == [1, 5]
