"""What each way of choosing pairs costs against a layer's width, and whether an update stays as cheap as it was."""

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from l2e_min import monosemantic_scale
from l2e_min.lab.bench_method import SHARE, Row, heavy_tailed, in_copies, in_turns, operations, seconds
from l2e_min.lab.ledger.measurement import Measurement

WAYS = ("threshold", "top-1 of a token", "top 2 % by topk", "top 2 % by sort", "top 2 % by quantile")
"""The ways of choosing pairs among the operations of ``l2e bench method``."""

HEAP_WIDTH = 1024
"""Widest layer that goes through a heap: a heap handles one Python number at a time."""


def ways(z: Tensor) -> dict[str, Callable[[], object]]:
    """Every way of choosing among the pairs of ``z`` (tokens, neurons), and one copy of ``z``, the unit of cost.

    Those of ``l2e bench method`` that choose pairs, and two more: NumPy's selection, and a heap (W24 names heaps).
    """
    table = operations(z, compiled=False)
    phi = monosemantic_scale(z, z.mean(0), z.var(0))  # (tokens, neurons)
    k = round(SHARE * phi.numel())

    def by_partition() -> Tensor:
        flat = phi.flatten().numpy()
        mask = np.zeros(flat.size, dtype=bool)
        mask[np.argpartition(flat, flat.size - k)[flat.size - k :]] = True
        return torch.from_numpy(mask).view(phi.shape)

    def by_heap() -> Tensor:
        return phi >= heapq.nlargest(k, phi.flatten().tolist())[-1]

    chosen = {name: table[name] for name in ("copy", *WAYS)} | {"top 2 % by NumPy's argpartition": by_partition}
    return chosen | ({"top 2 % by heap": by_heap} if z.shape[1] <= HEAP_WIDTH else {})


def retrieval_costs(
    neurons: Sequence[int], tokens: int = 256, repeats: int = 15, budget: float = 0.3, seed: int = 0
) -> list[Row]:
    """Times every way at every width, in turns, so that a slow moment of the machine hits all of them alike.

    tokens: of one batch. repeats: of each way, or as many as fit in ``budget`` seconds, but at least three.
    Returns a row a way and width, in copies of the activations; ``low`` and ``high`` are quartiles.
    """
    rows = []
    for width in neurons:
        table = ways(heavy_tailed(tokens, width, seed))
        rows += in_copies(in_turns(table, repeats, budget), (width, tokens, torch.get_num_threads(), "cpu", "eager"))
    return rows


def growth_exponent(calls: Mapping[float, Callable[[], object]], turns: int = 200, seed: int = 0) -> Measurement:
    """Slope of log time against log count: 0 is constant cost, 1 is proportional (C01, C14).

    calls: count -> what to time. Each turn takes the least disturbed of five calls at every count and gives one slope;
    the estimate is the median slope, its interval the bootstrap's over turns.
    """
    x = np.log(list(calls))
    x = x - x.mean()
    slopes = []
    for _ in range(turns):
        y = np.log([min(seconds(call) for _ in range(5)) for call in calls.values()])
        slopes.append((y - y.mean()) @ x / (x @ x))
    draws = np.median(np.random.default_rng(seed).choice(slopes, (2000, turns)), axis=1)
    return Measurement(np.median(slopes), *np.quantile(draws, [0.025, 0.975]), seeds=1, n=turns)
