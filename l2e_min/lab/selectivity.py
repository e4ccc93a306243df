"""How much a neuron's phi stands out on its own feature, measured on rows that did not choose the feature.

The rows of a feature dataset are split in two. One half gives the moments and chooses ``l*``; the other half is
measured. On the half that chose, ``phi_l* > phi_l_minus`` holds by construction and says nothing (claim B01).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from l2e_min import monosemantic_scale, relative_feature
from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger.measurement import Measurement


@dataclass(frozen=True)
class Halves:
    """phi of N neurons on the two halves of the rows, by the moments of the first half."""

    chosen_phi: Tensor
    """(n1, N) float64 phi on the half that gave the moments and chooses l*."""
    chosen_labels: Tensor
    """(n1,)"""
    held_phi: Tensor
    """(n2, N) float64 phi on the half that is measured."""
    held_labels: Tensor
    """(n2,)"""

    def star(self, labels: Tensor | None = None) -> Tensor:
        """(N,) l* chosen on the first half, by its own labels or by those given (n1,)."""
        return relative_feature(self.chosen_phi, self.chosen_labels if labels is None else labels)

    def on_and_off(self, star: Tensor | None = None, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``(phi_l*, phi_l_minus)``, (N,) each, on the second half; by other features or labels (n2,) if given."""
        star = self.star() if star is None else star
        return on_and_off(self.held_phi, self.held_labels if labels is None else labels, star)

    def resampled(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """``(phi_l*, phi_l_minus)``, (B, N) each, on the second half, where row i counts ``weights[b, i]`` times."""
        mine = (self.held_labels[:, None] == self.star()).double()  # (n2, N)
        on, off = weights @ (self.held_phi * mine), weights @ (self.held_phi * (1 - mine))  # (B, N)
        n_on = weights @ mine
        return on / n_on, off / (weights.sum(1, keepdim=True) - n_on)

    def only(self, neurons: Tensor) -> "Halves":
        """The same rows with these neurons alone."""
        return Halves(self.chosen_phi[:, neurons], self.chosen_labels, self.held_phi[:, neurons], self.held_labels)


def split_phi(values, labels, chosen, held) -> Halves:
    """phi on two sets of rows (index arrays), with the moments of the first.

    values: (n, N) or (n, layers, neurons), flattened to (n, N); labels: (n,). Neurons that are constant on the first
    half have no phi and are refused; see ``alive``.
    """
    z = torch.as_tensor(np.asarray(values)).double().flatten(1)  # (n, N)
    labels = torch.as_tensor(np.asarray(labels)).long()
    chosen, held = torch.as_tensor(np.asarray(chosen)), torch.as_tensor(np.asarray(held))
    mean, var = z[chosen].mean(0), z[chosen].var(0)
    if not (var > 0).all():
        raise UserError(f"{int((var <= 0).sum())} neurons are constant on the rows that choose; drop them first")
    phi = [monosemantic_scale(z[rows], mean, var) for rows in (chosen, held)]
    return Halves(phi[0], labels[chosen], phi[1], labels[held])


def on_and_off(phi: Tensor, labels: Tensor, star: Tensor) -> tuple[Tensor, Tensor]:
    """(N,), (N,): mean phi (n, N) over the rows of each neuron's feature ``star`` (N,), and over all other rows."""
    mine = labels[:, None] == star  # (n, N)
    on, n_on = torch.where(mine, phi, 0).sum(0), mine.sum(0)
    return on / n_on, (phi.sum(0) - on) / (len(phi) - n_on)


def resampled_weights(labels: Tensor, n: int, seed: int) -> Tensor:
    """(n, rows): bootstrap weights, rows drawn with replacement within each label, so that no label goes missing."""
    rng, labels = np.random.default_rng(seed), labels.numpy()
    weights = np.zeros((n, len(labels)))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=n)
    return torch.from_numpy(weights)


def permuted_log_ratios(halves: Halves, n: int, seed: int) -> Tensor:
    """(n, N): held-out ``log(phi_l* / phi_l_minus)`` under ``n`` random permutations of the labels, l* chosen anew."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        chosen = halves.chosen_labels[torch.randperm(len(halves.chosen_labels), generator=g)]
        held = halves.held_labels[torch.randperm(len(halves.held_labels), generator=g)]
        on, off = halves.on_and_off(halves.star(chosen), held)
        found.append((on / off).log())
    return torch.stack(found)


def interval(estimate: float, draws: Tensor, seeds: int = 1, n: int | None = None) -> Measurement:
    """The estimate with the central 95 % of its bootstrap draws, widened to hold the estimate where they are skewed."""
    low, high = np.quantile(np.asarray(draws), [0.025, 0.975])
    return Measurement(estimate, min(low, estimate), max(high, estimate), seeds, n)


def excess_over_null(halves: Halves, neurons: Tensor, permutations: int, bootstrap: int, seed: int):
    """C02 for some neurons (their numbers): ``(excess, ratio, null)``.

    ``ratio``: median over the neurons of ``phi_l* / phi_l_minus``, held out. ``null`` (permutations,): log of the same
    median under permuted labels. ``excess``: log ratio minus the 97.5 % quantile of the null.
    """
    few = halves.only(neurons)
    null = permuted_log_ratios(few, permutations, seed).median(1).values
    threshold = null.quantile(0.975).item()
    on, off = few.on_and_off()
    value = (on / off).log().median().item()
    on, off = few.resampled(resampled_weights(few.held_labels, bootstrap, seed))
    draws = (on / off).log().median(1).values  # (B,)
    excess = interval(value - threshold, draws - threshold, n=len(neurons))
    return excess, interval(float(np.exp(value)), draws.exp(), n=len(neurons)), null


def gap_to_random(halves: Halves, best: Tensor, random: Tensor, bootstrap: int, seed: int) -> tuple[float, Tensor]:
    """C03: log of (mean phi_l* of the ``best`` neurons / mean phi_l* of the ``random`` ones), held out, and its draws.

    Rows are drawn anew within each label, and neurons within each group. The rows drawn depend on the seed alone, so
    two models measured on the same rows can be compared draw by draw.
    """
    on_best, on_random = (halves.only(group).on_and_off()[0].mean() for group in (best, random))
    weights = resampled_weights(halves.held_labels, bootstrap, seed)  # (B, n2)
    g = torch.Generator().manual_seed(seed + 1)
    means = []
    for group in (best, random):
        on, _ = halves.only(group).resampled(weights)  # (B, group)
        picks = torch.randint(len(group), on.shape, generator=g)
        means.append(on.gather(1, picks).mean(1))
    return (on_best / on_random).log().item(), (means[0] / means[1]).log()


def shares_above(
    values, labels, halves: Halves, permutations: int, bootstrap: int, seed: int
) -> dict[str, Measurement]:
    """B01 for one data set: how often ``phi_l* > phi_l_minus``, by construction and beyond the null.

    ``share_true``, ``share_permuted``: of neurons, on the rows that chose l* (all rows), real and permuted labels (the
    smallest of ten permutations). ``beyond_null_true``, ``beyond_null_permuted``: of neurons whose held-out log ratio
    lies above the 95 % quantile of their own permutation null.
    """
    z = torch.as_tensor(np.asarray(values)).double().flatten(1)
    labels = torch.as_tensor(np.asarray(labels)).long()
    phi = monosemantic_scale(z, z.mean(0), z.var(0))
    g = torch.Generator().manual_seed(seed)
    permuted = [labels[torch.randperm(len(labels), generator=g)] for _ in range(10)]
    shares = []
    for some in (labels, *permuted):
        on, off = on_and_off(phi, some, relative_feature(phi, some))
        shares.append((on > off).double().mean().item())
    null = permuted_log_ratios(halves, permutations, seed)  # (P, N)
    fresh = permuted_log_ratios(halves, permutations, seed + 1)
    limit = null.quantile(0.95, dim=0)  # (N,)
    on, off = halves.on_and_off()
    value = ((on / off).log() > limit).double().mean().item()
    on, off = halves.resampled(resampled_weights(halves.held_labels, bootstrap, seed))
    draws = ((on / off).log() > limit).double().mean(1)
    return {
        "share_true": Measurement.exact(shares[0], n=z.shape[1]),
        "share_permuted": Measurement.exact(min(shares[1:]), n=z.shape[1]),
        "beyond_null_true": interval(value, draws, n=z.shape[1]),
        "beyond_null_permuted": mean_interval((fresh > limit).double().mean(1)),
    }


def mean_interval(draws: Tensor) -> Measurement:
    """Mean of independent draws on one model, with the 95 % interval of Student's t."""
    over = Measurement.over_seeds(draws.tolist(), n=len(draws))
    return Measurement(over.value, over.low, over.high, seeds=1, n=len(draws))
