"""One model on one feature dataset: two passes over the texts, and everything that the book reads off them.

Half of the rows, split by source, give the moments and choose l* and the probes; the other half is measured (B01 says
why). Nothing here holds the values of all neurons, so Pythia 6.9B takes the same way as a mini model.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from l2e_min import ks_statistic, monosemantic_scale
from l2e_min.lab.errors import UserError
from l2e_min.lab.probing import CANDIDATES, TEST_SHARE, ProbeTable, probe, split_rows
from l2e_min.lab.study.first_pass import FirstPass, first_pass
from l2e_min.lab.study.levels import LevelCounts
from l2e_min.lab.study.stream import ValueStream
from l2e_min.lab.text.features import FeatureDataset

PLACE, DEPTH = 0, 1
"""The two parts of the held-out rows in ``Observed.levels``: one may choose a level, the other measures it."""


@dataclass(frozen=True)
class Observed:
    """What two passes keep of a model's values on a dataset. Neurons are numbered through all layers."""

    data: FeatureDataset
    layers: int
    neurons: int
    """Neurons of a layer."""
    held: Tensor
    """(n,) boolean: rows that are measured."""
    shuffled: Tensor
    """(n,) labels with those of the held-out rows permuted among themselves: the null of everything held out."""
    first: FirstPass
    star: Tensor
    """(layers * neurons,) l*, chosen on the other rows."""
    probes: ProbeTable
    """The best candidates of every feature; ``neuron`` counts through all layers, ``layer`` is 0."""
    some: Tensor
    """(K,) random neurons that vary, ascending."""
    some_values: Tensor
    """(n, K) their values."""
    levels: LevelCounts
    """Pairs on the held-out rows, in the parts PLACE and DEPTH."""
    null_levels: LevelCounts
    """The same with ``shuffled`` labels."""

    @property
    def labels(self) -> Tensor:
        """(n,)"""
        return torch.from_numpy(self.data.labels)

    def layer_of(self, numbers: Tensor) -> Tensor:
        """The layers of neurons given by their numbers."""
        return numbers // self.neurons

    def some_phi(self) -> Tensor:
        """(n, K) float64: phi of the random neurons on every row, by the moments of the rows that choose."""
        return phi_of(self.some_values, self.first, self.some)

    def ks(self, null: bool = False) -> Tensor:
        """(K,): held-out K-S statistic of the random neurons (W25 Fig. 4); ``null``: with shuffled labels."""
        labels = self.shuffled if null else self.labels
        return ks_statistic(self.some_phi()[self.held], labels[self.held], self.star[self.some])


def observe(
    model,
    tokenizer,
    data: FeatureDataset,
    *,
    random_neurons: int = 1000,
    candidates: int = CANDIDATES,
    seed: int = 0,
    **stream_options,
) -> Observed:
    """Runs the two passes. ``seed`` splits the rows, draws the random neurons and shuffles the null's labels.

    ``random_neurons``: W25 draws 1,000; all of them where there are fewer. Other options as for ``ValueStream``.
    Raises ``UserError`` for data that cannot be split, for a model whose neurons are all constant or not finite, and
    what ``neuron_values`` raises.
    """
    held, part = parts_of(data, seed)
    labels = torch.from_numpy(data.labels)
    stream = ValueStream(model, tokenizer, data.texts, **stream_options)
    first = first_pass(stream, labels, held)
    alive = first.alive.nonzero()[:, 0].numpy()
    if not len(alive):
        raise UserError(f"every neuron of the model is constant over the texts of {data.name}; nothing to measure")
    star = first.star()
    rng = np.random.default_rng([seed, 2])
    shuffled = labels.clone()
    shuffled[held] = labels[held][torch.from_numpy(rng.permutation(int(held.sum())))]
    some = torch.from_numpy(np.sort(rng.choice(alive, min(random_neurons, len(alive)), replace=False)))
    chosen = first.candidates(candidates).unique()  # (C,)

    levels, null_levels = LevelCounts(2, stream.layers), LevelCounts(2, stream.layers)
    kept = torch.empty(len(labels), len(chosen) + len(some))
    for rows, z in stream:
        kept[rows] = z[:, torch.cat([chosen, some])]
        rows, z = rows[held[rows]], z[held[rows]]
        if not len(rows):
            continue
        phi = phi_of(z, first).unflatten(1, (stream.layers, stream.neurons))  # (b, layers, neurons)
        for counts, truth in ((levels, labels), (null_levels, shuffled)):
            own = truth[rows, None] == star  # (b, layers * neurons)
            counts.add(phi, own.view_as(phi), part[rows])
    table = probe(kept[:, : len(chosen)].numpy(), data.labels, groups=data.sources, candidates=candidates, seed=seed)
    table.neuron[:] = chosen.numpy()[table.neuron]
    return Observed(
        data, stream.layers, stream.neurons, held, shuffled, first, star, table,
        some, kept[:, len(chosen) :], levels, null_levels,
    )  # fmt: skip


def parts_of(data: FeatureDataset, seed: int) -> tuple[Tensor, Tensor]:
    """(n,) boolean: the rows that are measured; (n,): their part, PLACE or DEPTH, and -1 for the rows that choose.

    Split by source. Raises ``UserError`` where a feature's rows come from too few sources for three parts.
    """
    try:
        _, test = split_rows(data.labels, TEST_SHARE, seed, data.sources)
        place, _ = split_rows(data.labels[test], 0.5, seed + 1, np.asarray(data.sources)[test])
    except UserError as error:
        files = [len({data.sources[i] for i in np.flatnonzero(data.labels == f)}) for f in range(len(data.features))]
        fewest = int(np.argmin(files))
        raise UserError(
            f"{data.name} cannot be split into a half and two quarters with 2 rows of each feature, files kept whole "
            f"({data.features[fewest]}: {files[fewest]} files); give each feature more files, or ask for more rows"
        ) from error
    held, part = torch.from_numpy(test), torch.full((len(test),), -1)
    part[held] = torch.from_numpy(np.where(place, PLACE, DEPTH))
    return held, part


def phi_of(z: Tensor, first: FirstPass, numbers: Tensor | None = None) -> Tensor:
    """phi of values (b, K) of the neurons ``numbers`` (default: all), float64, 0 for constant neurons."""
    mu, s2, alive = (x if numbers is None else x[numbers] for x in (first.mu, first.s2, first.alive))
    return monosemantic_scale(z.double(), mu, s2).masked_fill_(~alive, 0)
