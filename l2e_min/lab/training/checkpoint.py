"""Checkpoints that survive being killed: written beside, synced, then renamed; safetensors and JSON, nothing pickled.

A checkpoint is a folder ``step-00000500`` with ``state.json`` and one ``NAME.safetensors`` a part. It gets this name
only when all of it is on the disk, so a name that is there is a checkpoint that is complete.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from l2e_min.lab.errors import UserError

KEEP = 2
"""How many checkpoints stay: the newest, and the one before in case a disk damaged the newest."""

STATE = "state.json"


def pack(tree: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """A JSON twin of a ``state_dict``-like tree; its tensors move to ``tensors`` and leave their key behind.

    Dictionaries (with any JSON key), lists, tuples, tensors, numbers, strings, booleans and None are allowed; tuples
    come back as lists. Raises ``TypeError`` for anything else.
    """
    if isinstance(tree, torch.Tensor):
        key = path or "tensor"
        while key in tensors:  # {"a.b": x, "a": {"b": y}}
            key += "_"
        tensors[key] = tree.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(tree, dict):  # pairs, because an optimizer's keys are integers and JSON's are not
        return {"dict": [[k, pack(v, tensors, f"{path}.{k}" if path else str(k))] for k, v in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"list": [pack(v, tensors, f"{path}.{i}" if path else str(i)) for i, v in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"a checkpoint holds tensors, numbers, strings and collections of them, got {type(tree).__name__}")


def unpack(packed: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The tree that ``pack`` took apart."""
    if not isinstance(packed, dict):
        return packed
    if "tensor" in packed:
        return tensors[packed["tensor"]]
    if "list" in packed:
        return [unpack(v, tensors) for v in packed["list"]]
    return {k: unpack(v, tensors) for k, v in packed["dict"]}


def save_checkpoint(folder: Path, step: int, parts: dict[str, Any], state: dict) -> Path:
    """Writes ``parts`` (name: ``state_dict``) and ``state`` (plain JSON) as ``step``'s checkpoint; keeps the last two.

    Being killed at any moment leaves the earlier checkpoints as they were. Returns the checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    target = folder / f"step-{step:08d}"
    temporary = folder / f"writing-{step:08d}.tmp"
    temporary.mkdir()
    record = {"step": step, "state": state, "parts": {}, "bytes": {}}
    for name, tree in parts.items():
        tensors: dict[str, torch.Tensor] = {}
        record["parts"][name] = pack(tree, tensors)
        save_file(tensors, temporary / f"{name}.safetensors")
        record["bytes"][name] = sync(temporary / f"{name}.safetensors")
    (temporary / STATE).write_text(json.dumps(record), encoding="utf-8")
    sync(temporary / STATE)
    sync(temporary)
    if target.exists():  # only ever a damaged one: a complete checkpoint of this step would have been resumed from
        retire(target)
    os.rename(temporary, target)
    sync(folder)
    for old in complete_checkpoints(folder)[:-KEEP]:
        retire(old)
    return target


def load_checkpoint(checkpoint: Path) -> tuple[int, dict[str, Any], dict]:
    """(step, parts, state) as given to ``save_checkpoint``; tensors on the CPU."""
    record = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    parts = {}
    for name, packed in record["parts"].items():
        parts[name] = unpack(packed, load_file(checkpoint / f"{name}.safetensors"))
    return record["step"], parts, record["state"]


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below ``folder``, or None."""
    complete = complete_checkpoints(folder)
    return complete[-1] if complete else None


def complete_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first. A folder whose files are missing or cut short does not count."""
    if not folder.is_dir():
        return []
    return sorted(c for c in folder.iterdir() if re.fullmatch(r"step-\d{8}", c.name) and is_complete(c))


def is_complete(checkpoint: Path) -> bool:
    """Whether ``state.json`` can be read and every part is there in its full length."""
    try:
        sizes = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["bytes"]
        return all((checkpoint / f"{name}.safetensors").stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def restore(name: str, target: Any, tree: Any) -> None:
    """``target.load_state_dict(tree)``, with a clear error where the checkpoint does not fit."""
    if tree is None:
        raise UserError(f"the checkpoint has no {name}: it is from a run with another method")
    try:
        target.load_state_dict(tree)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"the checkpoint's {name} does not fit this run: {str(error).splitlines()[0]}") from error


def retire(checkpoint: Path) -> None:
    """Deletes a checkpoint so that one half deleted cannot be taken for a whole: the name goes first."""
    doomed = checkpoint.with_name(f"deleting-{checkpoint.name}.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Clears what a killed run left half written or half deleted."""
    for leftover in folder.glob("*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def sync(path: Path) -> int:
    """Forces a file or folder to the disk; its size in bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
