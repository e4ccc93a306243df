"""A study's numbers to read: one table a dataset, models down, measures across."""

import numpy as np

from l2e_min.lab.study.dataset import DEPTH
from l2e_min.lab.study.killing import at

COLUMNS = (
    ("bits/byte", lambda row, m: row["bits_per_byte"]),
    ("F1", lambda row, m: m["f1"]),
    ("F1 null", lambda row, m: m["f1_null"]),
    ("phi on, best", lambda row, m: m["phi_on_best"]),
    ("off", lambda row, m: m["phi_off_best"]),
    ("phi on, all", lambda row, m: m["phi_on"]),
    ("null", lambda row, m: m["phi_on_null"]),
    ("K-S", lambda row, m: m["ks"]),
    ("K-S null", lambda row, m: m["ks_null"]),
    ("gap/S", lambda row, m: m["gap_standardized"]),
    ("FKR 2 %", lambda row, m: at(0.02, np.array(m["fkr"][DEPTH], dtype=float)).mean()),
    ("loss rise", lambda row, m: np.mean(m["rise"]) if "rise" in m else None),
    ("random", lambda row, m: np.mean(m["rise_random"]) if "rise" in m else None),
)

WIDTH = 6
"""Characters of a column at least: 12.345"""

LEGEND = """\
F1: mean held-out F1 of the ten neurons that a sparse probe finds best; phi on, off: their MS on their own feature and
elsewhere, held out; phi on, all: of all neurons; K-S: of phi on l* against phi on all rows, mean of the random neurons;
gap/S: value on the feature minus off it, in standard deviations; FKR: mean over layers; loss rise: nats per token on a
feature when its ten best neurons are held at their mean, and for ten random ones. null: with permuted labels."""


def table(rows: list[dict]) -> str:
    """The rows of a study as text, and what the columns are."""
    names = [f"{row['scale']} s{row['seed']} {'end' if row['step'] < 0 else row['step']}" for row in rows]
    width = max(map(len, names), default=0)
    blocks = []
    for dataset in rows[0]["datasets"]:
        heads = "  ".join(f"{title:>{WIDTH}}" for title, _ in COLUMNS)
        lines = [dataset, f"{'':{width}}  {heads}"]
        for name, row in zip(names, rows, strict=True):
            cells = [(_cell(value(row, row["datasets"][dataset])), max(len(title), WIDTH)) for title, value in COLUMNS]
            lines.append(f"{name:{width}}  {'  '.join(f'{cell:>{size}}' for cell, size in cells)}")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, LEGEND])


def _cell(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"
