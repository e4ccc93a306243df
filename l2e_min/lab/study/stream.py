"""The values of a model's neurons as a stream that can be read several times without being held."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from l2e_min.lab.measure import pick_sites, value_batches, width

MEMORY = 2**30
"""Bytes of values that are kept for the next pass: 1 GiB holds any mini model on thousands of texts. Pythia 6.9B (32 x
16,384 neurons) on 2,000 texts has 4.2 GB; it is run again instead."""


class ValueStream:
    """One value for each text and neuron, batch by batch, as often as asked for.

    Iterating yields ``(rows, z)``: the numbers of a batch's texts (b,) and their values (b, layers * neurons), float32,
    on the CPU. The first pass runs the model; a later one runs it again, unless all values fit into ``memory`` bytes
    and were kept.
    """

    def __init__(
        self,
        model,
        tokenizer,
        texts: Sequence[str],
        *,
        aggregate: str = "mean",
        batch_size: int = 64,
        memory: int = MEMORY,
        progress: bool = True,
    ):
        sites = pick_sites(model, None)
        self.layers, self.neurons, self.n_texts = len(sites), width(sites[0]), len(texts)
        self._read = lambda: value_batches(
            model, tokenizer, texts, aggregate=aggregate, batch_size=batch_size, progress=progress
        )
        self._fits = 4 * self.n_texts * self.width <= memory
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    @property
    def width(self) -> int:
        """Neurons of all layers together."""
        return self.layers * self.neurons

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept = []
        for rows, z in self._read():
            batch = rows, z.flatten(1)  # (b,), (b, layers * neurons)
            if self._fits:
                kept.append(batch)
            yield batch
        if self._fits:  # only after a pass that was read to its end
            self._kept = kept

    def columns(self, numbers) -> Tensor:
        """(n_texts, K): the values of some neurons, by their numbers ``layer * neurons + neuron``; one pass."""
        numbers = torch.as_tensor(numbers, dtype=torch.long)
        values = torch.empty(self.n_texts, len(numbers))
        for rows, z in self:
            values[rows] = z[:, numbers]
        return values
