"""When a threshold has settled, and how far the share it then holds lies from the wanted one (C14)."""

from collections.abc import Sequence

import numpy as np

from l2e_min.lab.ledger.measurement import Measurement

LAST = 500  # batches over which the share is taken, as C14 says
BLOCKS = 20  # of 25 batches each


def relative_share_error(share: Sequence[float], wanted: float, last: int = LAST, blocks: int = BLOCKS) -> Measurement:
    """(mean share of the last batches - wanted) / wanted, with Student's t over disjoint blocks of batches.

    Neighbouring batches are not independent: one that came out rich raises the threshold for the next. Means of blocks
    much longer than the threshold's memory (20 batches at its slow rate) are nearly so. What dependence is left is
    negative (tau pays back in one block what it took in the one before), which makes the interval wide, not narrow.
    """
    tail = np.asarray(share, dtype=np.float64)[-last:]
    if len(tail) < last or last % blocks:
        raise ValueError(f"got {len(tail)} batches; expected at least {last}, in {blocks} blocks of equal size")
    over = Measurement.over_seeds(tail.reshape(blocks, -1).mean(1) / wanted - 1)
    return Measurement(over.value, over.low, over.high, seeds=1, n=last)


def steps_to_settle(log_tau: Sequence[float], last: int = LAST, within: float = 0.1) -> int:
    """Batches until log tau first comes within ``within`` of its mean over the last batches."""
    path = np.asarray(log_tau, dtype=np.float64)
    if len(path) < last:
        raise ValueError(f"got {len(path)} batches; expected at least {last}")
    return int(np.argmax(np.abs(path - path[-last:].mean()) <= within))


def farthest(measurements: Sequence[Measurement]) -> Measurement:
    """The one whose value lies farthest from 0."""
    return max(measurements, key=lambda m: abs(m.value))
