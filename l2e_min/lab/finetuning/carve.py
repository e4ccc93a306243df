"""The rows that choose, cut out of the training rows where a task's own dev rows are what is reported."""

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.task import Rows

MOST, SHARE = 2000, 0.1
"""Rows that choose by default: a tenth, at most 2,000, whose accuracy has a standard error of a point at 70 %."""


def carve(rows: Rows, dev_rows: int | None = None, seed: int = 0) -> tuple[Rows, Rows]:
    """(train, dev): ``dev_rows`` rows (default: a tenth, at most 2,000) drawn out of ``rows``, both in their old order.

    Stratified: each class gives its share of dev to within a row; of values, every stretch of their range does. The
    ``seed`` draws. Raises UserError where dev_rows leaves nothing on one side.
    """
    n = len(rows)
    size = max(1, min(MOST, int(SHARE * n))) if dev_rows is None else dev_rows
    if not 1 <= size < n:
        raise UserError(f"cannot take {size} of {n} training rows to choose by; ask for 1 to {n - 1} (dev rows)")
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.permutation(n), rows.labels))  # by label, at random within one
    every = ((np.arange(size) + rng.random()) * n / size).astype(np.int64)  # systematic sampling: even steps
    chosen = np.zeros(n, dtype=bool)
    chosen[order[every]] = True
    return rows.take(~chosen), rows.take(chosen)
