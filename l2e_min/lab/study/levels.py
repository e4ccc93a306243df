"""The False Killing Rate at every inhibition level at once, from counts instead of pairs (W25 eq. 4).

phi is sorted into narrow bins on a logarithmic scale, apart for pairs on and off their neuron's l*. Counting from the
top gives FKR for any share; within the bin that a share ends in, on and off are taken in proportion. Against
``false_killing_rate``, which takes whole pairs, K selected pairs are off by at most 1 + m/4 of them, m those of that
bin (seen: 0.023 with 50 pairs, 0.005 with 500). Of many pairs at phi 0 it takes all or none; here a part counts.
"""

import numpy as np
import torch
from torch import Tensor

LOW, HIGH = -24, 14  # powers of two: below, phi is 0 for every purpose; no real phi was seen above 2^12
BINS_PER_OCTAVE = 32  # a bin is 2.2 % wide

SHARES = tuple(float(f"{share:.3g}") for share in np.logspace(-3, 0, 25))
"""Inhibition levels of the book's figures, 0.1 % to 100 % of all pairs, eight a decade."""


class LevelCounts:
    """Counts of (input, neuron) pairs by part of the rows, layer, on or off l*, and phi.

    Args:
        parts: sets of rows that are counted apart.
        layers: layers of the model, each with its own threshold.
    """

    def __init__(self, parts: int, layers: int):
        self.bins = (HIGH - LOW) * BINS_PER_OCTAVE
        self.counts = torch.zeros(parts, layers, 2, self.bins, dtype=torch.long)

    def add(self, phi: Tensor, own: Tensor, part: Tensor) -> None:
        """phi: (b, layers, neurons); own: the same shape, whether the input has the neuron's l*; part: (b,)."""
        layers = self.counts.shape[1]
        bins = ((phi.float().log2() - LOW) * BINS_PER_OCTAVE).clamp(0, self.bins - 1).long()  # log2(0) goes to bin 0
        place = part[:, None, None] * layers + torch.arange(layers)[:, None]  # (b, layers, 1)
        index = (place * 2 + own.long()) * self.bins + bins
        self.counts += torch.bincount(index.flatten(), minlength=self.counts.numel()).view_as(self.counts)

    def together(self) -> "LevelCounts":
        """The counts of all parts as one."""
        whole = LevelCounts(1, self.counts.shape[1])
        whole.counts += self.counts.sum(0, keepdim=True)
        return whole

    def fkr(self, shares=SHARES) -> np.ndarray:
        """(parts, layers, S): FKR at each share; NaN where the share is less than one pair."""
        from_top = self.counts.flip(-1).double().cumsum(-1)  # (parts, layers, 2, bins)
        selected, wrong = from_top.sum(2).numpy(), from_top[:, :, 0].numpy()
        shares = np.asarray(shares)
        rates = np.full((*selected.shape[:2], len(shares)), np.nan)
        for place in np.ndindex(selected.shape[:2]):
            wanted = shares * selected[place][-1]
            ends = np.concatenate([[0], selected[place]]), np.concatenate([[0], wrong[place]])
            enough = wanted * (1 + 1e-12) >= 1
            rates[place][enough] = np.interp(wanted[enough], *ends) / wanted[enough]
        return rates
