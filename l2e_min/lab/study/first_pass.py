"""First pass: the moments of every neuron on every feature, and all that follows from them without the values.

With ``mu, S^2`` the moments of the rows that choose, the mean phi of other rows of a feature (c of them, with mean
``m`` and sample variance ``v``) is ``((c - 1)/c v + (m - mu)^2) / S^2``: W25 eq. 2 needs no second look at the rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from l2e_min import RunningMoments
from l2e_min.lab.errors import UserError

CHOSEN, HELD = 0, 1
"""The half of the rows that gives the moments and chooses l*, and the half that is measured."""


@dataclass(frozen=True)
class FirstPass:
    """Moments by half, feature and neuron, float64. Neurons of all layers stand in one row, N of them."""

    count: Tensor
    """(2, L) rows of each half and feature."""
    mean: Tensor
    """(2, L, N)"""
    var: Tensor
    """(2, L, N) sample variance (divisor count - 1)."""
    mu: Tensor
    """(N,) mean over all rows that choose: with ``s2`` the moments of every phi."""
    s2: Tensor
    """(N,) their sample variance."""

    @property
    def alive(self) -> Tensor:
        """(N,) boolean: neurons that vary on the rows that choose, by ``probing.probe``'s rule; others have no phi."""
        return self.s2.sqrt() > 1e-12 * self.mu.abs() + 1e-30

    def scores(self, half: int) -> Tensor:
        """(L, N): phi_l, the mean phi of a half's rows of each feature, by the moments of the rows that choose (W25
        eq. 2). 0 for constant neurons."""
        c = self.count[half][:, None]  # (L, 1)
        within = torch.where(c > 1, (c - 1) / c * self.var[half], 0)  # one row has no variance
        return torch.where(self.alive, (within + (self.mean[half] - self.mu).square()) / self.s2, 0)

    def star(self) -> Tensor:
        """(N,) l* by the rows that choose (W25 eq. 3)."""
        return self.scores(CHOSEN).argmax(0)

    def on_and_off(self, star: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(phi_l*, phi_l_minus)``, (N,) each, on the held-out rows; l* by the other half if not given."""
        star = self.star() if star is None else star
        return self._split(self.scores(HELD), star)

    def gap(self, star: Tensor) -> Tensor:
        """(N,): mean value on the rows of each neuron's feature ``star`` minus that on the others, held out."""
        on, off = self._split(self.mean[HELD], star)
        return on - off

    def _split(self, by_feature: Tensor, star: Tensor) -> tuple[Tensor, Tensor]:
        """Means of (L, N) ``by_feature`` over the held-out rows on and off ``star`` (N,)."""
        count = self.count[HELD][:, None]  # (L, 1)
        on, n_on = by_feature.gather(0, star[None])[0], self.count[HELD][star]  # (N,)
        return on, ((by_feature * count).sum(0) - on * n_on) / (count.sum() - n_on)

    def candidates(self, per_feature: int) -> Tensor:
        """(L, per_feature): the neurons whose mean on a feature differs most from the mean off it, in standard
        deviations, on the rows that choose: the ranking of ``probing.probe``. Constant neurons come last."""
        c = self.count[CHOSEN][:, None]
        total = c.sum()
        off = (self.mu * total - c * self.mean[CHOSEN]) / (total - c)  # (L, N)
        std = (self.s2 * (total - 1) / total).sqrt()
        difference = torch.where(self.alive, (self.mean[CHOSEN] - off).abs() / std, -1)
        return difference.topk(min(per_feature, difference.shape[1]), dim=1).indices


def first_pass(batches: Iterable[tuple[Tensor, Tensor]], labels: Tensor, held: Tensor) -> FirstPass:
    """Reads batches of ``(rows (b,), values (b, N))`` once. labels: (n,) from 0; held: (n,) boolean.

    Raises ``UserError`` where a half has no row of a feature, and for values that are not finite.
    """
    n_features = int(labels.max()) + 1
    group = held.long() * n_features + labels  # (n,) half and feature in one number
    if (group.bincount(minlength=2 * n_features) == 0).any():
        raise UserError("a half of the rows has none of a feature; expected rows of every feature in both halves")
    moments: list[RunningMoments] = []
    for rows, z in batches:
        if not moments:
            moments = [RunningMoments(z.shape[1], dtype=torch.float64) for _ in range(2 * n_features)]
        if not z.isfinite().all():  # the moments would leave such a batch out
            text = int(rows[~z.isfinite().all(1)].min())
            raise UserError(f"the model's values on text {text} hold NaN or infinity; such a model cannot be measured")
        for number in group[rows].unique().tolist():
            moments[number].update(z[group[rows] == number])
    chosen = RunningMoments(moments[0].n_neurons, dtype=torch.float64)
    for part in moments[:n_features]:
        chosen.merge(part)  # W24 Lemma 3.2
    stacks = (torch.stack([getattr(m, name) for m in moments]).double() for name in ("count", "mean", "var"))
    return FirstPass(*(x.unflatten(0, (2, n_features)) for x in stacks), chosen.mean, chosen.var)
