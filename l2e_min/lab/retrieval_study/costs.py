"""What each way of choosing pairs costs against a layer's width, and whether an update stays as cheap as it was."""

import heapq
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from l2e_min import monosemantic_scale
from l2e_min.lab.bench_method import SHARE, Row, operations
from l2e_min.lab.ledger.measurement import Measurement

WAYS = ("threshold", "top-1 of a token", "top 2 % by topk", "top 2 % by sort", "top 2 % by quantile")
"""The ways of choosing pairs among the operations of ``l2e bench method``."""

HEAP_WIDTH = 1024
"""Widest layer that goes through a heap: a heap handles one Python number at a time."""


def heavy_tailed(tokens: int, neurons: int, seed: int = 0) -> Tensor:
    """(tokens, neurons) draws of Student's t with five degrees of freedom: heavy-tailed, as activations are."""
    g = torch.Generator().manual_seed(seed)
    chi2 = torch.randn(5, tokens, neurons, generator=g).square().sum(0)
    return torch.randn(tokens, neurons, generator=g) / (chi2 / 5).sqrt()


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
        first = {name: seconds(call) for name, call in table.items()}  # also the warm-up
        wanted = {name: max(3, min(repeats, int(budget / first[name]))) for name in table}
        times: dict[str, list[float]] = {name: [] for name in table}
        for turn in range(max(wanted.values())):
            for name, call in table.items():
                if turn < wanted[name]:
                    times[name].append(seconds(call))
        unit = statistics.median(times["copy"])
        for name, found in times.items():
            low, middle, high = statistics.quantiles(found, n=4)
            threads = torch.get_num_threads()
            place = (width, tokens, threads, "cpu", "eager", name)
            rows.append(Row(*place, middle / unit, low / unit, high / unit, 1e3 * middle))
    return rows


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
