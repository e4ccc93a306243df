"""Batches rich and poor in monosemantic activations: what a threshold and a top-k select in each (W25 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from l2e_min import MovingThreshold, TopK, monosemantic_scale, relative_feature
from l2e_min.lab.ledger.measurement import Measurement
from l2e_min.lab.probing import split_rows
from l2e_min.lab.retrieval_study.stream import FLOOR


@dataclass(frozen=True)
class Selected:
    """What both ways selected, batch by batch. Arrays are (batches,)."""

    label: np.ndarray
    """Feature of the batch's texts; -1 for a mixed batch."""
    pairs: np.ndarray
    """All pairs of the batch."""
    threshold: np.ndarray
    """Pairs that the moving threshold selected."""
    threshold_false: np.ndarray
    """Of these, the pairs whose text is not of the neuron's l*."""
    top: np.ndarray
    """Pairs that the top-k selected, k being the same share of every batch: the one the threshold took of all."""
    top_false: np.ndarray

    def share(self, label: int) -> np.ndarray:
        """(batches of this label,) share of the pairs that the threshold selected."""
        mine = self.label == label
        return self.threshold[mine] / self.pairs[mine]

    def fkr_difference(self, draws: int = 1000, seed: int = 0) -> Measurement:
        """FKR of the threshold minus FKR of the top-k, all batches together; bootstrap interval over batches."""
        counts = np.stack([self.threshold_false, self.threshold, self.top_false, self.top]).astype(np.float64)
        n = counts.shape[1]
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)  # (draws, batches)

        def difference(sums):
            return sums[0] / sums[1] - sums[2] / sums[3]

        low, high = np.quantile(difference(counts @ weights.T), [0.025, 0.975])
        value = difference(counts.sum(1))
        return Measurement(value, min(low, value), max(high, value), seeds=1, n=n)


@dataclass(frozen=True)
class Richness:
    """One dataset: how rich its features are, and what was selected in batches of one feature and in mixed ones."""

    share_of_neurons: np.ndarray
    """(L,) share of the layer's neurons whose l* the feature is, chosen on texts that are not measured."""
    single: Selected
    mixed: Selected


@torch.no_grad()
def rich_and_poor(
    values: Sequence[Tensor], labels, groups: Sequence[str] | None = None, *, share=0.02, per_batch=8, seed=0
) -> Richness:
    """Compares the two ways on one layer's activations of a labelled dataset.

    values: one (tokens, N) a text. labels: (texts,). groups: texts of one group stay on one side of the split.
    One half of the texts gives the moments, each neuron's l* (by the text's mean phi), and settles the threshold on
    mixed batches. The other half is measured, cut once into batches of one feature, in random order, and once into
    mixed ones. The threshold moves on all the while, as in training.
    """
    labels = np.asarray(labels)
    chosen, held = (np.flatnonzero(side) for side in split_rows(labels, 0.5, seed, groups))
    z = torch.cat([values[i] for i in chosen])
    mean, var = z.mean(0), z.var(0)
    del z
    phi = [monosemantic_scale(z, mean, var, FLOOR) for z in values]  # (tokens, N) a text
    of_text = torch.stack([phi[i].mean(0) for i in chosen])  # (chosen texts, N)
    star = relative_feature(of_text, torch.from_numpy(labels[chosen]))  # (N,)
    rng = np.random.default_rng(seed)
    start = np.quantile(torch.cat([phi[i] for i in chosen[:: max(1, len(chosen) // 100)]]).numpy(), 1 - share)
    settled = MovingThreshold(share, start=float(start))
    for rows in mixed_batches(chosen, per_batch, rng):
        settled(torch.cat([phi[i] for i in rows]))
    single = [rows for f in range(labels.max() + 1) for rows in mixed_batches(held[labels[held] == f], per_batch, rng)]
    single = [single[i] for i in rng.permutation(len(single))]
    found = []
    for batches, is_mixed in ((single, False), (mixed_batches(held, per_batch, rng), True)):
        threshold = MovingThreshold(share)
        threshold.load_state_dict(settled.state_dict())
        found.append(_select(batches, phi, labels, star, threshold, is_mixed))
    counts = np.bincount(star.numpy(), minlength=labels.max() + 1)
    return Richness(counts / len(star), *found)


def mixed_batches(rows: np.ndarray, per_batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The rows in random order, cut into batches of about ``per_batch``."""
    return np.array_split(rng.permutation(rows), max(1, len(rows) // per_batch))


def _select(batches, phi, labels, star, threshold, is_mixed: bool) -> Selected:
    columns: dict[str, list[int]] = {name: [] for name in Selected.__dataclass_fields__}

    def count(name: str, mask: Tensor, wrong: Tensor) -> None:
        columns[name].append(int(torch.count_nonzero(mask)))
        columns[f"{name}_false"].append(int(torch.count_nonzero(mask & wrong)))

    joined = []
    for rows in batches:
        batch = torch.cat([phi[i] for i in rows])  # (tokens, N)
        of_token = np.repeat(labels[rows], [len(phi[i]) for i in rows])
        wrong = torch.from_numpy(of_token)[:, None] != star  # (tokens, N)
        columns["label"].append(-1 if is_mixed else int(labels[rows[0]]))
        columns["pairs"].append(batch.numel())
        count("threshold", threshold(batch), wrong)
        joined.append((batch, wrong))
    top = TopK(share=sum(columns["threshold"]) / sum(columns["pairs"]))
    for batch, wrong in joined:
        count("top", top(batch), wrong)
    return Selected(**{name: np.array(column) for name, column in columns.items()})
