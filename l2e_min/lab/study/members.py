"""The models of a suite's folder, as it was trained (``l2e pretrain suite``) or as it ships."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_model, load_suite, untrained
from l2e_min.lab.training.run_folder import read_json

STEPS = (0, 4, 16, 64, 128, 256, 512, 1024)
"""Snapshots that a study looks at by default, beside the end of training: few early ones, where little happens."""


@dataclass(frozen=True)
class Member:
    """One model: a scale and seed after some steps of training."""

    scale: str
    seed: int
    step: int
    load: Callable[[], tuple]
    """Gives (model, tokenizer)."""
    weights: str = ""
    """Digest of the weights, where the name alone does not say which they are."""

    def __str__(self) -> str:
        return f"{self.scale} seed {self.seed} {'end' if self.step < 0 else f'step {self.step}'}"


def is_suite(folder: Path) -> bool:
    """Whether a folder holds a suite rather than a model."""
    return (folder / "suite.json").is_file()


def members(folder: Path, steps: Sequence[int] = STEPS) -> list[Member]:
    """All models in ``folder`` that are at one of ``steps`` or at the end of training; small scales first."""
    places = {_number(run): run for run in folder.glob("*/seed*") if _number(run)}
    found = [member for _, run in sorted(places.items()) for member in _of_run(folder, run, steps)]
    if not found:
        raise UserError(f"{folder} holds no finished run of a suite; train one with: l2e pretrain suite --out {folder}")
    return found


def _of_run(folder: Path, run: Path, steps: Sequence[int]) -> list[Member]:
    record = read_json(run / "training.json") or read_json(run / "result.json")
    if record is None:
        return []  # not finished
    scale, seed, last = run.parent.name, int(run.name.removeprefix("seed")), record["settings"]["steps"]
    shipped = (run / "training.json").is_file()
    places = run if shipped else run / "snapshots"
    there = {int(f.name.split(".")[1][4:]) for f in places.glob("model.step*.safetensors")} | {0}

    def load(step: int):
        if shipped:
            return load_suite(scale, seed, None if step == last else step, folder=folder)
        if step in (0, last):
            model, tokenizer = load_model(run / "model")
            return (model if step == last else untrained(model.config, seed=seed)), tokenizer
        return load_model(places, variant=f"step{step}", tokenizer=folder / "tokenizer")

    wanted = [*sorted(there & set(steps) - {last}), last]
    return [Member(scale, seed, step, lambda step=step: load(step)) for step in wanted]


def _number(run: Path) -> tuple[int, ...]:
    """Hidden size, layers and seed of a run's folder ``128x4/seed0``; nothing for any other."""
    found = re.fullmatch(r"(\d+)x(\d+)/seed(\d+)", "/".join(run.parts[-2:]))
    return tuple(map(int, found.groups())) if found else ()
