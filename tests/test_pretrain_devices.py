"""Two processes train the weights that one trains on the joint batch: DDP, FSDP, pieces, stops and resumes."""

import csv
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pretrain_on_devices as runs
import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import is_bert
from l2e_min.lab.mini_pythia import load_model
from l2e_min.lab.training import many_devices
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.checkpoint import latest_checkpoint, load_checkpoint
from l2e_min.lab.training.devices import Devices
from l2e_min.lab.training.many_devices import devices_for
from l2e_min.lab.training.recipe import PretrainSettings

HERE = Path(__file__).parent
CASES = {
    "plain": {},
    "memel": {"method": "memel"},
    "l2e": {"method": "l2e", "weight": 0.03, "layers": "all"},
    "l2e in pieces": {"method": "l2e", "accumulate": 2},
    "bert": {"size": "bert-32x2", "method": "l2e"},
    "zeroed": {"method": "zeroed"},
}
SHARDED = ("plain", "memel", "l2e", "l2e in pieces")


def torchrun(script: list[str], folder: Path, processes: int = 2) -> subprocess.CompletedProcess:
    """Runs a script in several processes that talk by gloo."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "L2E_BUILD": str(folder / "build"), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.run([*launcher, *script], env=environment, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every case, trained by one process (one/NAME), by two (two/NAME), and by two with shards (shards/NAME)."""
    folder = tmp_path_factory.mktemp("devices")
    torch.set_num_threads(1)
    plan = []
    for name, changes in CASES.items():
        runs.go(folder / "one" / name, changes)
        plan.append({"out": str(folder / "two" / name), "changes": changes, "read": str(folder / f"{name}.rows")})
        if name in SHARDED:
            plan.append({"out": str(folder / "shards" / name), "changes": changes, "shard": True})
    # Stopped after the first checkpoint, to go on elsewhere.
    for kind in ("two", "shards"):
        out, shard = str(folder / "stopped" / kind), kind == "shards"
        plan.append({"out": out, "changes": CASES["l2e"], "shard": shard, "stop_at": 5})
    # Begun by one process, to be finished by two.
    for kind in ("two", "shards"):
        out = folder / "begun" / kind
        begin(out, CASES["l2e"])
        plan.append({"out": str(out), "changes": CASES["l2e"], "shard": kind == "shards"})
    (folder / "plan.json").write_text(json.dumps(plan))
    done = torchrun([str(HERE / "pretrain_on_devices.py"), str(folder / "plan.json")], folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def begin(out: Path, changes: dict) -> None:
    """One process trains up to the checkpoint after step 7."""
    whole = p.training_step
    calls = []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return whole(*arguments)

    p.training_step = dying
    try:
        with pytest.raises(KeyboardInterrupt):
            # go() wraps what it finds, and puts it back
            runs.go(out, changes)
    finally:
        p.training_step = whole


def trained(out: Path) -> dict[str, torch.Tensor]:
    """Weights, and the inhibitor's state, of a finished run."""
    parts = load_checkpoint(latest_checkpoint(out / "checkpoints"))[1]
    saved = {f"inhibitor {name}": tensor for name, tensor in parts.get("inhibitor", {}).items()}
    if not is_bert(json.loads((out / "settings.json").read_text())["size"]):
        return load_model(out / "model")[0].state_dict() | saved
    return parts["model"] | saved


def assert_same(one: Path, other: Path) -> None:
    """Weights within 1e-5, but for the biases of the keys: their gradient is rounding, and Adam makes steps of it."""
    want, got = trained(one), trained(other)
    assert set(want) == set(got)
    for name, tensor in want.items():
        if not name.endswith(("query_key_value.bias", "key.bias")):
            close = {"rtol": 1e-3, "atol": 1e-5} if name.startswith("inhibitor") else {"rtol": 0, "atol": 1e-5}
            torch.testing.assert_close(got[name], tensor, **close, msg=lambda m, n=name: f"{n}: {m}")


def log(out: Path) -> list[dict[str, str]]:
    with open(out / "training_log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_trains(folder, name):
    assert_same(folder / "one" / name, folder / "two" / name)
    for want, got in zip(log(folder / "one" / name), log(folder / "two" / name), strict=True):
        for column in ("loss", "validation_loss", "gradient_norm"):
            assert float(got[column]) == pytest.approx(float(want[column]), rel=1e-4), column


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_two_processes_that_share_the_model_train_what_one_trains(folder, name):
    assert_same(folder / "one" / name, folder / "shards" / name)
    want, got = (float(log(folder / kind / name)[-1]["loss"]) for kind in ("one", "shards"))
    assert got == pytest.approx(want, rel=1e-4)


@pytest.mark.slow
def test_every_process_reads_its_own_rows(folder):
    first, second = (json.loads((folder / f"l2e in pieces.{rank}").read_text()) for rank in (0, 1))
    assert not set(first) & set(second) and sorted(first + second) == list(range(14 * 8))
    assert first[:4] == [0, 1, 4, 5] and second[:4] == [2, 3, 6, 7], "half of each piece of four"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two", "shards"])
def test_stopped_by_a_signal_to_one_process_all_stop_and_one_goes_on(folder, kind):
    out = folder / "stopped" / kind
    assert latest_checkpoint(out / "checkpoints").name == "step-00000007" and not (out / "result.json").exists()
    runs.go(out, CASES["l2e"])
    assert_same(folder / "one" / "l2e", out)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two", "shards"])
def test_what_one_process_began_two_finish(folder, kind):
    assert_same(folder / "one" / "l2e", folder / "begun" / kind)
    assert [int(row["step"]) for row in log(folder / "begun" / kind)] == [7, 14]


@pytest.mark.slow
def test_the_command_under_torchrun_and_its_errors(tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    for number, document in enumerate(runs.corpus().train):
        (text / f"{number}.txt").write_text(f"{number} {document.text}")
    tiny = "--size 16x1 --batch 4 --context 16 --log-every 2 --validate-every 2 --steps 4 --vocabulary 300 --device cpu"
    command = ["-m", "l2e_min", "pretrain", "--text", str(text), *tiny.split(), "--method", "l2e"]
    done = torchrun([*command, "--out", str(tmp_path / "out"), "--quiet"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("validation loss") == 1 and (tmp_path / "out/model/model.safetensors").is_file()
    bad = torchrun([*command, "--out", str(tmp_path / "bad"), "--accumulate", "4"], tmp_path)
    assert bad.returncode != 0 and "a batch of 4 rows cannot be cut into 8 equal shares: 2 processes" in bad.stderr


# ---- in this process ---------------------------------------------------------------------------------------------


def test_one_process_needs_nothing_of_it(monkeypatch):
    settings = PretrainSettings(size="16x1", device="cpu", batch=12, accumulate=3)
    assert type(devices_for(settings)) is Devices
    with pytest.raises(UserError, match="one process has nobody to share a model with"):
        devices_for(settings, shard=True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert type(devices_for(settings)) is Devices


def test_shares_of_a_step_are_the_step():
    settings = PretrainSettings(size="16x1", device="cpu", batch=12, accumulate=3)
    devices = Devices(settings)
    assert devices.own_rows(1) == [(0, 4), (4, 4), (8, 4)] and devices.own_rows(3)[0] == (24, 4)
    rows = []
    for rank in (0, 1):
        devices.rank, devices.count = rank, 2
        rows.append([row for start, n in devices.own_rows(2) for row in range(start, start + n)])
    assert rows == [[12, 13, 16, 17, 20, 21], [14, 15, 18, 19, 22, 23]]


def test_at_the_end_the_wrapped_model_goes_before_the_process_group(monkeypatch):
    """The other way round a process may wait for ever: seen in one run of many, so the order itself is tested."""
    gone, devices = [], object.__new__(many_devices.ManyDevices)
    devices.objective, devices.accelerator = torch.nn.Linear(2, 2), SimpleNamespace(free_memory=lambda: None)
    weakref.finalize(devices.objective, gone.append, "model")
    monkeypatch.setattr(many_devices, "STARTED", weakref.WeakSet([devices]))
    monkeypatch.setattr(many_devices.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(many_devices.distributed, "destroy_process_group", lambda: gone.append("group"))
    many_devices.end()
    assert gone == ["model", "group"]
