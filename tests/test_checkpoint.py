"""Checkpoints: nothing is lost on the way, nothing incomplete is taken for whole, nothing is pickled."""

import os
import signal
from pathlib import Path

import pytest
import torch

from l2e_min.lab.training import checkpoint as c


def tree() -> dict:
    return {
        "state": {
            0: {"step": torch.tensor(3.0), "average": torch.arange(6.0).view(2, 3)},
            1: {"step": torch.tensor(4)},
        },
        "groups": [{"lr": 0.1, "betas": [0.9, 0.95], "fused": True, "maximize": None, "name": "a"}],
        "bits": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "a.b": torch.tensor([1]),
        "a": {"b": torch.tensor([2])},
        "empty": torch.zeros(0),
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and type(a) is type(b)


def test_a_tree_comes_back_as_it_was(tmp_path):
    saved = c.save_checkpoint(tmp_path, 7, {"one": tree(), "two": {"x": torch.ones(2)}}, {"text": "é", "n": 3})
    step, parts, state = c.load_checkpoint(saved)
    assert step == 7 and state == {"text": "é", "n": 3}
    assert same(parts, {"one": tree(), "two": {"x": torch.ones(2)}})


def test_an_optimizer_comes_back_and_goes_on_the_same(tmp_path):
    def make():
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 8))
        return weight, torch.optim.AdamW([weight], lr=0.1, fused=True)

    def step(weight, optimizer):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()

    weight, optimizer = make()
    step(weight, optimizer)
    saved = c.save_checkpoint(tmp_path, 1, {"weight": {"w": weight}, "optimizer": optimizer.state_dict()}, {})
    step(weight, optimizer)
    other, again = make()
    _, parts, _ = c.load_checkpoint(saved)
    other.data.copy_(parts["weight"]["w"])
    again.load_state_dict(parts["optimizer"])
    step(other, again)
    assert torch.equal(weight, other)


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(TypeError, match="got function"):
        c.pack({"f": tree}, {})


def test_only_the_last_two_stay_and_the_newest_is_found(tmp_path):
    assert c.latest_checkpoint(tmp_path / "nowhere") is None
    for step in (5, 10, 15):
        c.save_checkpoint(tmp_path, step, {"p": {"x": torch.tensor(step)}}, {})
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]
    assert c.latest_checkpoint(tmp_path).name == "step-00000015"


@pytest.mark.parametrize("damage", ["cut", "missing", "no_state", "bad_state"])
def test_a_damaged_checkpoint_is_passed_over_and_can_be_written_again(tmp_path, damage):
    for step in (5, 10):
        c.save_checkpoint(tmp_path, step, {"p": {"x": torch.arange(100)}}, {})
    newest = tmp_path / "step-00000010"
    part = newest / "p.safetensors"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:-1])
    elif damage == "missing":
        part.unlink()
    elif damage == "no_state":
        (newest / "state.json").unlink()
    else:
        (newest / "state.json").write_text("{")
    assert c.latest_checkpoint(tmp_path).name == "step-00000005"
    c.save_checkpoint(tmp_path, 10, {"p": {"x": torch.arange(3)}}, {})
    assert c.load_checkpoint(c.latest_checkpoint(tmp_path))[1]["p"]["x"].tolist() == [0, 1, 2]


def test_killed_at_any_system_call_of_a_save_the_last_checkpoint_stands(tmp_path):
    """A child is killed at the 1st, 2nd, ... sync, rename or delete of its third save; what is left must load."""
    outcomes, n = [], 0
    while not outcomes or outcomes[-1] != "survived":
        n += 1
        folder = tmp_path / str(n)
        for step in (1, 2):
            c.save_checkpoint(folder, step, {"p": {"x": torch.full((50,), step)}}, {"s": step})
        outcomes.append(save_in_a_child_killed_at(folder, n))
        step, parts, state = c.load_checkpoint(c.latest_checkpoint(folder))
        assert step in (2, 3) and state == {"s": step} and torch.equal(parts["p"]["x"], torch.full((50,), step))
        c.save_checkpoint(folder, 4, {"p": {"x": torch.tensor(4)}}, {})
        assert all(f.name.startswith("step-") for f in folder.iterdir()), "leftovers are cleared"
    assert outcomes.count("killed") >= 7  # 3 syncs, rename, sync, rename, delete


def save_in_a_child_killed_at(folder: Path, n: int) -> str:
    child = os.fork()
    if child == 0:
        calls = 0

        def deadly(function):
            def wrapper(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return wrapper

        for module, name in ((c.os, "fsync"), (c.os, "rename"), (c.shutil, "rmtree")):
            setattr(module, name, deadly(getattr(module, name)))
        c.save_checkpoint(folder, 3, {"p": {"x": torch.full((50,), 3)}}, {"s": 3})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else "survived"


def test_nothing_is_pickled(tmp_path):
    saved = c.save_checkpoint(tmp_path, 1, {"p": tree()}, {})
    assert {f.suffix for f in saved.iterdir()} == {".json", ".safetensors"}
    assert "pickle" not in Path(c.__file__).read_text().replace("nothing pickled", "")
