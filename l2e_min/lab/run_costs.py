"""What running the book costs: what was measured (``data/results/run_costs.json``), and arithmetic for the rest.

The rows come from ``book/_tools/costs.py``. What is computed here needs no weights and no network, only configurations.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

from l2e_min.lab.mini_pythia import PYTHIA, config_for, parameter_counts
from l2e_min.lab.paths import DATA
from l2e_min.lab.record import read
from l2e_min.lab.settings import PROFILES

RECORD = DATA / "results" / "run_costs.json"

QUIET = 0.1
"""Cores that others may keep busy before wall seconds stop counting: a chapter's own kernel keeps one."""

ROW_TOKENS = 128
"""At most: a feature row is 128 bytes long, and a token holds at least one."""

THROUGH = {
    "across_scales": (
        (),
        ("scales", "revisions", "rows_per_feature", "random_neurons", "device", "dtype", "batch_size"),
    ),
    "load_scale": (("device",), ("dtype",)),
    "record.study": (("encoder", "tasks", "device", "profile"), ()),
}
"""Functions to which a chapter hands the settings as a whole: what they read of them in any case, and what only for
models of the hub (what the shipped suite gives is on record)."""


def measured(profile: str = "quick", path: Path = RECORD) -> list[dict]:
    """The rows of a profile, in the book's order; none where nobody has measured it."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["profile"] == profile]


def wall(row: dict) -> str:
    """A row's wall time in seconds, or why there is none."""
    return f"{row['wall_seconds']:.0f}" if row["others"] <= QUIET else "busy"


def changes(chapter: str, profile: str) -> list[str]:
    """The settings that a chapter's source reads and that are other than under "quick", by name."""
    found = set(re.findall(r"\bsettings\.(\w+)", chapter))
    for function, (always, of_hub) in THROUGH.items():
        if f"{function}(" in chapter:
            found |= {*always, *(of_hub if PROFILES[profile].needs_hub else ())}
    base, other = asdict(PROFILES["quick"]), asdict(PROFILES[profile])
    return sorted(name for name in found & base.keys() - {"profile"} if base[name] != other[name])


def parameters(size: str) -> int:
    """Parameters of a Pythia by its published configuration, e.g. of "pythia-70m"; no weights are made."""
    import torch
    from transformers import GPTNeoXForCausalLM

    with torch.device("meta"):
        model = GPTNeoXForCausalLM._from_config(config_for(size), attn_implementation="eager")
    return parameter_counts(model)[0]


def download_bytes(size: str) -> int:
    """Bytes of a published Pythia's weights: two a parameter (fp16), and one mask of 2048 x 2048 bytes a layer.

    The masks are left over from the code that saved them. The hub lists 166 MB for 70M and 13.85 GB for 6.9B.
    """
    return 2 * parameters(size) + PYTHIA[size][1] * 2048**2


def measuring_bytes(size: str, batch: int) -> dict[str, int]:
    """Bytes on the device when neurons are measured in bf16: the weights, and at most the scores of one batch.

    The scores of all words for ``batch`` rows of ``ROW_TOKENS`` tokens, in float32, are the largest thing beside the
    weights; the values of one layer's neurons, (b, t, 4 h) in float32, come next.
    """
    hidden, _, _, vocabulary, _ = PYTHIA[size]
    tokens = batch * ROW_TOKENS
    return {"weights": 2 * parameters(size), "scores": 4 * tokens * vocabulary, "layer": 4 * tokens * 4 * hidden}


def training_bytes(size: str) -> int:
    """Bytes for training: weights, gradients and AdamW's two moments in float32; without what a batch takes."""
    return 16 * parameters(size)


def cpu_hours(path: Path) -> tuple[int, float | None]:
    """(runs, CPU hours) of a record of runs, ``.jsonl``; None for the hours where the runs did not count them."""
    rows = read(path)[1]
    seconds = [row.get("cpu_seconds") for row in rows]
    return len(rows), None if None in seconds else sum(seconds) / 3600
