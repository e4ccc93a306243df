"""Moving thresholds on a stream of real activations: phi judged by running moments, batch by batch, as in training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from l2e_min import MovingThreshold, RunningMoments, monosemantic_scale
from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import pad, pick_sites, run, token_ids, watching, width

FORGET_AFTER, FLOOR = 10, 0.01  # n_f and eps, the Inhibitor's defaults
OFF = 55.0  # how many times too high and too low the thresholds of C14 start
WARM_UP = 20  # batches whose pooled quantile says what "too high" means


@dataclass
class Path:
    """One threshold along the stream."""

    share: list[float] = field(default_factory=list)
    """Share of each batch's pairs above the threshold that judged it."""
    log_tau: list[float] = field(default_factory=list)
    """Log of the threshold that judged each batch; the first is the start."""


@dataclass
class Followed:
    """What :func:`follow` returns."""

    paths: dict[tuple[int, float, float], Path]
    """By (layer, wanted share, start as a multiple of the right threshold)."""
    values: list[Tensor]
    """Of the kept layer: one (tokens, neurons) a text, in the order of the texts."""
    sorted_phi: list[np.ndarray]
    """Of the kept layer: phi of each of the last ``keep_batches`` batches, all its pairs in rising order."""


def token_batches(
    model: nn.Module, tokenizer, texts: Sequence[str], n_batches: int, tokens: int = 32, seed: int = 0
) -> Iterator[tuple[np.ndarray, list[int], list[Tensor]]]:
    """Yields ``(rows, lengths, values)`` a batch: numbers of its texts, tokens of each, and (tokens, neurons) a layer.

    Every text comes once, in an order drawn from ``seed``, cut at ``tokens`` tokens. UserError: too few texts.
    """
    if not 1 <= n_batches <= len(texts):
        raise UserError(f"{len(texts)} texts cannot make {n_batches} batches; expected at least one text a batch")
    sites = pick_sites(model, None)
    ids = [row[:tokens] for row in token_ids(model, tokenizer, texts)]
    for rows in np.array_split(np.random.default_rng(seed).permutation(len(ids)), n_batches):
        padded, mask = pad([ids[i] for i in rows])
        seen: dict[int, Tensor] = {}

        def keep(layer: int, z: Tensor, seen=seen, mask=mask) -> None:  # z: (b, t, N)
            seen[layer] = z[mask.to(z.device).bool()].float().cpu()  # (tokens of the batch, N)

        with watching(sites, keep):
            run(model, padded, mask)
        yield rows, mask.sum(1).tolist(), [seen[layer] for layer in range(len(sites))]


@torch.no_grad()
def follow(
    model: nn.Module,
    tokenizer,
    texts: Sequence[str],
    n_batches: int = 650,
    *,
    shares: Sequence[float] = (0.02, 0.001),
    starts: Sequence[float] = (OFF, 1 / OFF),
    keep_layer: int = 0,
    keep_batches: int = 200,
    tokens: int = 32,
    seed: int = 0,
) -> Followed:
    """Runs a moving threshold for every layer, wanted share and start along all texts, each text once.

    Moments are kept as the Inhibitor keeps them: they forget after ten batches, and a batch is judged by those before
    it. The first batch is judged by nobody. ``starts`` are multiples of the quantile of phi over the first 20 batches.
    UserError: too few texts or batches.
    """
    if n_batches <= WARM_UP:
        raise UserError(f"n_batches is {n_batches}; expected more than {WARM_UP}, which say where the thresholds start")
    moments = [RunningMoments(width(site), FORGET_AFTER) for site in pick_sites(model, None)]
    values: list[Tensor] = [torch.empty(0)] * len(texts)
    sorted_phi: list[np.ndarray] = []
    paths: dict[tuple[int, float, float], Path] = {}
    thresholds: dict[tuple[int, float, float], MovingThreshold] = {}
    early: list[list[Tensor]] = []  # phi (tokens, N) of each layer, for the batches before the starts are known

    def judge(phis: list[Tensor]) -> None:
        for key, threshold in thresholds.items():
            phi, path = phis[key[0]], paths[key]
            path.log_tau.append(threshold.log_tau.item())
            path.share.append(torch.count_nonzero(threshold(phi)).item() / phi.numel())

    for number, (rows, lengths, layers) in enumerate(token_batches(model, tokenizer, texts, n_batches, tokens, seed)):
        for row, z in zip(rows, layers[keep_layer].split(lengths), strict=True):
            values[row] = z.clone()
        if number:
            phis = [monosemantic_scale(z, m.mean, m.var, FLOOR) for z, m in zip(layers, moments, strict=True)]
            if number <= WARM_UP:
                early.append(phis)
            if number == WARM_UP:
                for layer, k in product(range(len(moments)), shares):
                    right = pooled_quantile(early, layer, 1 - k)
                    thresholds |= {(layer, k, off): MovingThreshold(k, start=right * off) for off in starts}
                paths.update((key, Path()) for key in thresholds)
                for before in early:
                    judge(before)
            if number > WARM_UP:
                judge(phis)
            if number >= n_batches - keep_batches:
                sorted_phi.append(np.sort(phis[keep_layer].flatten().numpy()))
        for z, m in zip(layers, moments, strict=True):
            m.update(z)
    return Followed(paths, values, sorted_phi)


def pooled_quantile(batches: Sequence[Sequence[Tensor]], layer: int, level: float) -> float:
    """The ``level`` quantile of one layer's phi over all pairs of some batches, each a list with one phi a layer."""
    return float(np.quantile(torch.cat([phis[layer].flatten() for phis in batches]).numpy(), level))


@torch.no_grad()
def layer_quantiles(model: nn.Module, tokenizer, texts: Sequence[str], share: float, tokens: int = 32) -> np.ndarray:
    """(layers,) the phi that ``share`` of all pairs exceed, judged by the moments of these very texts."""
    batches = list(token_batches(model, tokenizer, texts, -(-len(texts) // 64), tokens))
    found = []
    for layer in range(len(batches[0][2])):
        z = torch.cat([values[layer] for _, _, values in batches])  # (tokens, N)
        found.append(np.quantile(monosemantic_scale(z, z.mean(0), z.var(0), FLOOR).numpy(), 1 - share))
    return np.array(found)
