"""Which tokens trigger inhibition: the (row, position, dimension) pairs that a fine-tuned model's inhibitor selects.

    run = fine_tune(task, model, FineTuneSettings(Method("memel")))
    found = find_triggers(run, task, settings)
    found.kinds(layer=1)        # by kind of token: pairs, their share, and the share of all positions
    tokens, phi, selected = found.marks(row=0, layer=1)     # for show.marked_tokens.marked_html

Judged by the run's last moments, with dropout and inhibition off, on batches put together as in training: padding is as
frequent as it was there.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch

from l2e_min import TopK, monosemantic_scale
from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.batches import Encoded
from l2e_min.lab.finetuning.run import FineTuned, FineTuneSettings, autocast, to_device
from l2e_min.lab.finetuning.task import Rows, Task
from l2e_min.lab.mini_bert import encoder_layers
from l2e_min.lab.training.method_choice import DEACTIVATING

KINDS = ("[CLS]", "[SEP]", "padding", "[UNK]", "punctuation", "number", "word", "word piece")
"""A word piece goes on with a word ("##ing"); a word may be the beginning of one."""

NEIGHBOURS = 3
"""Tokens to either side that a trigger is shown with."""


@dataclass(frozen=True)
class Trigger:
    """One selected pair."""

    layer: int
    """Number of the block from 0."""
    row: int
    position: int
    dimension: int
    phi: float
    z: float
    token: str
    kind: str
    """One of ``KINDS``."""
    left: str
    """Up to three tokens before it."""
    right: str


@dataclass(frozen=True)
class Triggers:
    """All selected pairs of a split, and what they are seen against."""

    pairs: tuple[Trigger, ...]
    tokens: tuple[tuple[str, ...], ...]
    """By row, with its batch's padding."""
    phi: dict[int, tuple[np.ndarray, ...]]
    """By layer and row, (t,): the largest phi over the dimensions at each position."""

    @property
    def layers(self) -> list[int]:
        """Numbers of the blocks."""
        return sorted(self.phi)

    def of(self, layer: int | None = None) -> list[Trigger]:
        """The pairs of one layer; None: of all."""
        if layer is not None and layer not in self.phi:
            raise UserError(f"no layer {layer} here; the inhibited ones are {', '.join(map(str, self.layers))}")
        return [pair for pair in self.pairs if layer in (None, pair.layer)]

    def kinds(self, layer: int | None = None) -> list[dict]:
        """A row a kind of token: "kind", "pairs", "share" of the pairs, "of_positions" (share of all positions, what
        blind chance would select), and "times" (their ratio, NaN where the kind does not occur)."""
        pairs = Counter(pair.kind for pair in self.of(layer))
        there = Counter(kind_of(token) for row in self.tokens for token in row)
        table = []
        for kind in KINDS:
            share, base = pairs[kind] / max(1, pairs.total()), there[kind] / max(1, there.total())
            times = share / base if base else float("nan")
            table.append({"kind": kind, "pairs": pairs[kind], "share": share, "of_positions": base, "times": times})
        return table

    def on_padding(self, layer: int | None = None) -> float:
        """Share of the pairs that lie on padding: inhibiting them cannot change what the model says of a row."""
        return next(row["share"] for row in self.kinds(layer) if row["kind"] == "padding")

    def marks(self, row: int, layer: int) -> tuple[list[str], list[float], list[int]]:
        """(tokens, largest phi of each, selected positions) of a row, without the padding behind the last of both."""
        selected = sorted({pair.position for pair in self.of(layer) if pair.row == row})
        tokens = self.tokens[row]
        end = max([i + 1 for i, token in enumerate(tokens) if token != "[PAD]"] + [i + 1 for i in selected])
        return list(tokens[:end]), self.phi[layer][row][:end].tolist(), selected


def find_triggers(
    run: FineTuned, task: Task, settings: FineTuneSettings, rows: Rows | None = None, k: int | None = None
) -> Triggers:
    """The pairs that the inhibitor of ``run`` selects among ``rows`` (default: the dev rows); moves nothing.

    ``k``: pairs a row; default those of the run. UserError: the run has no inhibitor of W24's kinds.
    """
    if run.inhibitor is None or settings.method.name not in DEACTIVATING:
        raise UserError(f"a run with {settings.method.name!r} selects no pairs of each row; look into one with memel")
    rows = task.dev if rows is None else rows
    data = Encoded(rows, run.tokenizer, task)
    pad_to = data.most if settings.method.reading == "entry" else None
    top = TopK(k=k or settings.method.k)
    blocks = list(encoder_layers(run.model.encoder))
    sites = {blocks.index(site.module): run.inhibitor.states[site.name] for site in run.inhibitor.sites}
    pairs: list[Trigger] = []
    tokens: list[tuple[str, ...]] = [()] * len(data)
    phis = {layer: [np.zeros(0)] * len(data) for layer in sites}
    seen: dict[int, torch.Tensor] = {}
    handles = [blocks[layer].register_forward_hook(_keeper(seen, layer)) for layer in sites]
    run.model.eval()
    try:
        for index in data.epoch(settings.batch, seed=0, epoch=0):
            inputs, _ = to_device(data.batch(index, pad_to), settings.device)
            with torch.no_grad(), autocast(settings):
                run.model(**inputs)
            for row, ids in zip(index, inputs["input_ids"].tolist(), strict=True):
                tokens[row] = tuple(run.tokenizer.convert_ids_to_tokens(ids))
            for layer, state in sites.items():
                z = seen[layer]  # (b, t, d)
                flat = state.neurons_last(z, f"block {layer}")
                moments = state.moments
                phi = monosemantic_scale(flat, moments.mean, moments.var, run.inhibitor.floor).view_as(z)
                for row, largest in zip(index, phi.amax(2).cpu().numpy(), strict=True):
                    phis[layer][row] = largest
                for place, position, dimension in top(phi).nonzero().tolist():
                    row = int(index[place])
                    values = (phi[place, position, dimension].item(), z[place, position, dimension].item())
                    pairs.append(Trigger(layer, row, position, dimension, *values, *_words(tokens[row], position)))
    finally:
        for handle in handles:
            handle.remove()
    pairs.sort(key=lambda pair: (pair.layer, pair.row, pair.position, pair.dimension))
    return Triggers(tuple(pairs), tuple(tokens), {layer: tuple(found) for layer, found in phis.items()})


def kind_of(token: str) -> str:
    """The kind of a WordPiece token, one of ``KINDS``."""
    if token in ("[CLS]", "[SEP]", "[UNK]"):
        return token
    if token == "[PAD]":
        return "padding"
    word = token.removeprefix("##")
    if not any(letter.isalnum() for letter in word):
        return "punctuation"
    if word.isdecimal():
        return "number"
    return "word piece" if word != token else "word"


def _words(tokens: tuple[str, ...], at: int) -> tuple[str, str, str, str]:
    """(token, kind, left, right) of one position."""
    left, right = tokens[max(0, at - NEIGHBOURS) : at], tokens[at + 1 : at + 1 + NEIGHBOURS]
    return tokens[at], kind_of(tokens[at]), " ".join(left), " ".join(right)


def _keeper(seen: dict[int, torch.Tensor], layer: int):
    def keep(_module, _inputs, output):
        seen[layer] = (output[0] if isinstance(output, tuple) else output).detach()

    return keep
