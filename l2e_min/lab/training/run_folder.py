"""What a training run leaves in its folder beside the checkpoints: settings, log, versions."""

import json
import os
import platform
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.training.checkpoint import sync

COLUMNS = (
    "step",
    "tokens",
    "loss",
    "learning_rate",
    "gradient_norm",
    "validation_loss",
    "validation_bits_per_byte",
    "top_ms",
    "median_variance",
    "threshold",
    "share_selected",
)
"""Losses in nats a token; the training loss is the mean since the line before, the norm is the one before clipping. The
last four are those of ``watch``. What a run does not have stays empty."""


class TrainingLog:
    """A CSV file that can be cut back to where a checkpoint was, so that a resumed run leaves no line twice."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, row: dict[str, float]) -> None:
        """Appends a line. A file that an older version began keeps its own columns."""
        with open(self.path, "r+", encoding="utf-8", newline="") as file:
            columns = file.readline().rstrip("\n").split(",")
            file.seek(0, os.SEEK_END)
            file.write(",".join(self.text(column, row.get(column)) for column in columns) + "\n")

    @staticmethod
    def text(column: str, value: float | None) -> str:
        """A number as it stands in the file."""
        if value is None or isinstance(value, int):
            return "" if value is None else str(value)
        plain = "loss" in column or column in ("gradient_norm", "validation_bits_per_byte")
        return f"{value:.6f}" if plain else f"{value:.6g}"

    def sync(self) -> int:
        """Forces the lines to the disk; the file's length in bytes."""
        return sync(self.path)

    def truncate(self, n_bytes: int) -> None:
        """Cuts the file back to its first ``n_bytes``; to its heading alone where that is 0."""
        if n_bytes == 0:
            self.path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
        elif not self.path.is_file() or self.path.stat().st_size < n_bytes:
            raise UserError(f"{self.path} is shorter than its checkpoint says; start again in an empty folder")
        else:
            os.truncate(self.path, n_bytes)


def write_json(path: Path, content: dict) -> None:
    """Writes a file so that a killed run leaves either all of it or none."""
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sync(temporary)
    os.replace(temporary, path)


def read_json(path: Path) -> dict | None:
    """The file's contents, or None where there is none. Raises ``UserError`` for one that cannot be read."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def hold_to_settings(out: Path, settings: dict, *, missing: dict | None = None) -> None:
    """Writes ``settings.json``, or where there is one, raises ``UserError`` naming what it says differently.

    ``missing`` are the defaults of settings that an older run's file may lack.
    """
    stored = read_json(out / "settings.json")
    if stored is None:
        write_json(out / "settings.json", settings)
        return
    stored = {**(missing or {}), **stored}
    for name in {**stored, **settings}:
        if stored.get(name) != settings.get(name):
            raise UserError(
                f"cannot resume with another {name}: the run in {out} has {stored.get(name)!r}, "
                f"asked for {settings.get(name)!r}"
            )


def versions() -> dict[str, str]:
    """The versions that decide the digits of a run."""
    import numpy
    import tokenizers
    import torch
    import transformers

    packages = {m.__name__: m.__version__ for m in (numpy, tokenizers, torch, transformers)}
    return {"python": platform.python_version(), **packages}
