"""A threshold that chases a drifting quantile: lag where the step is small, jitter where it is large."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from l2e_min import MovingThreshold


class FixedStep(MovingThreshold):
    """The same Robbins-Monro step in log space with one constant rate, for comparison.

    W25 gives no formula; this is the plainest one that could be meant: ``log tau += rate * u``, u clipped as in
    :class:`MovingThreshold`.
    """

    def __init__(self, rate: float, share: float = 0.02, start: float | None = None):
        super().__init__(share, start)
        if not 0 < rate < float("inf"):
            raise ValueError(f"rate is {rate}; expected a positive number")
        self.rate.fill_(rate)

    @torch.no_grad()
    def move(self, share_above: Tensor, ok: Tensor | None = None) -> None:
        """Moves tau after a batch with ``share_above`` (scalar) of its pairs selected; see the parent."""
        error = ((share_above - self.share) / self.share).clamp(-1, 2)  # u
        log_tau = (self.log_tau + self.rate * error).clamp(-80, 80)
        self.log_tau.copy_(log_tau if ok is None else torch.where(ok, log_tau, self.log_tau))


class Chase(NamedTuple):
    """Arrays (batches,), natural logarithms."""

    log_tau: np.ndarray
    """The threshold that judged the batch."""
    log_quantile: np.ndarray
    """The threshold that would select the wanted share of all batches together, drifted to this batch."""
    share: np.ndarray
    """Selected share of the batch."""

    def relative_error(self, wanted: float) -> np.ndarray:
        """(batches,) ``(share - wanted) / wanted``."""
        return self.share / wanted - 1

    def off(self, skip: int = 0) -> float:
        """Root mean square of log (tau / quantile) from batch ``skip`` on."""
        return float(np.sqrt(np.mean((self.log_tau - self.log_quantile)[skip:] ** 2)))


def chase(
    threshold: MovingThreshold, sorted_phi: Sequence[np.ndarray], log_scale: Sequence[float], seed: int = 0
) -> Chase:
    """Lets ``threshold`` judge real batches whose phi a synthetic drift has multiplied.

    sorted_phi: batches, each with its pairs in rising order; they come in an order drawn from ``seed``, again and
    again. log_scale: (batches,) every phi of batch i counts ``exp(log_scale[i])`` times; ``d * np.arange(n)`` is a
    drift of d a batch, zeros are none. ``threshold`` is used up.
    """
    steps = len(log_scale)
    if not len(sorted_phi) or steps < 1:
        raise ValueError(f"got {len(sorted_phi)} batches and {steps} steps; expected at least one of each")
    rng = np.random.default_rng(seed)
    rounds = -(-steps // len(sorted_phi))
    order = np.concatenate([rng.permutation(len(sorted_phi)) for _ in range(rounds)])[:steps]
    log_tau, share = np.empty(steps), np.empty(steps)
    for step, which in enumerate(order):
        log_tau[step] = threshold.log_tau.item()
        share[step] = above(sorted_phi[which], log_tau[step] - log_scale[step]) / len(sorted_phi[which])
        threshold.move(torch.tensor(share[step], dtype=torch.float32))
    return Chase(log_tau, pooled_log_quantile(sorted_phi, threshold.share) + np.asarray(log_scale), share)


def above(batch: np.ndarray, log_tau: float) -> int:
    """How many of a sorted batch's phi are at least ``exp(log_tau)``."""
    return len(batch) - int(np.searchsorted(batch, np.float32(np.exp(log_tau)), side="left"))


def pooled_log_quantile(sorted_phi: Sequence[np.ndarray], share: float) -> float:
    """Log of the value with ``share`` of all pairs of all batches above it, by bisection on the sorted batches."""
    low, high = -60.0, 60.0
    wanted = share * sum(map(len, sorted_phi))
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(above(batch, middle) for batch in sorted_phi) > wanted else (low, middle)
    return (low + high) / 2
