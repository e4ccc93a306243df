"""What a method adds to a pretraining step, from several recorded runs of ``l2e bench pretrain`` (C15, W25 Table 2)."""

import json
from pathlib import Path

import numpy as np

from l2e_min.lab.ledger.measurement import Measurement
from l2e_min.lab.paths import DATA

FOLDER = DATA / "results" / "bench_pretrain"
"""A file for each run of ``l2e bench pretrain --sizes 64x3 128x4 192x5 256x6 --threads 1 --no-compile --out FILE``.
These ran in float32, on a processor without instructions for bfloat16."""

BF16 = FOLDER / "bf16"
"""The same in bfloat16 on a processor that has them; older, when the walk of L2E's backward pass still copied more."""

AGAIN, MEMEL, TOP_1, L2E, IN_THE_LOSS = (
    "plain, again",  # what the machine's noise alone makes of a ratio
    "MEmeL, top 2 % by sort",
    "MEmeL, top-1",
    "L2E, in the backward pass",
    "L2E, in the loss",
)

PUBLISHED = {MEMEL: {"pythia-70m": 9.7, "pythia-2.8b": 27.0}, L2E: {"pythia-70m": 3.4, "pythia-2.8b": 1.5}}
"""W25 Table 2, in % of the plain step."""


def overheads(method: str, column: str = "ratio", folder: Path = FOLDER) -> dict[str, list[float]]:
    """By size, smallest first: what the method adds, in % of the plain step; one number a run.

    ``column`` "memory": in % of the plain step's memory.
    """
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.json")):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        plain = {row["size"]: row["memory"] for row in rows if row["method"] == "plain"}
        for row in rows:
            if row["method"] == method:
                ratio = row["memory"] / plain[row["size"]] if column == "memory" else row["ratio"]
                found.setdefault(row["size"], []).append(100 * (ratio - 1))
    return found


def parameters(folder: Path = FOLDER) -> dict[str, int]:
    """Parameters of each size."""
    rows = json.loads(next(iter(sorted(folder.glob("*.json")))).read_text(encoding="utf-8"))["rows"]
    return {row["size"]: row["parameters"] for row in rows}


def resampled(values: list[float], seed: int = 0, draws: int = 10_000) -> Measurement:
    """Mean over runs with its 95 % bootstrap interval."""
    x = np.asarray(values)
    means = np.random.default_rng(seed).choice(x, (draws, len(x))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Measurement(float(x.mean()), float(low), float(high), len(x), unit="percentage points")


def slope(method: str, folder: Path = FOLDER) -> Measurement:
    """Slope of the overhead against log10 of the parameters, percentage points; one fit a run, bootstrap over runs."""
    by_size, sizes = overheads(method, folder=folder), parameters(folder)
    x = np.log10([sizes[size] for size in by_size])
    runs = np.array(list(by_size.values())).T  # (runs, sizes)
    return resampled([float(np.polyfit(x, run, 1)[0]) for run in runs])
