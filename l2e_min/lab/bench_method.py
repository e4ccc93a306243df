"""What the method costs: its parts side by side, alternating in one run, as multiples of one copy of the activations.

A copy into an array that is already there is the least a pass over the data can cost on a machine, so the multiples
compare across machines where seconds do not.
"""

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from l2e_min import MovingThreshold, RunningMoments, TopK, monosemantic_scale
from l2e_min.inhibitor import SiteState

SHARE = 0.02  # W25's k
NEURONS = (512, 1024, 2048, 4096, 8192, 16384)  # the MLP widths of Pythia 70M (2,048) to 6.9B (16,384), and below
QUANTILE_LIMIT = 2**24  # torch.quantile takes no more values


@dataclass(frozen=True)
class Row:
    """One operation at one size."""

    neurons: int
    tokens: int
    threads: int
    device: str
    mode: str
    """"eager" or "compiled"."""
    operation: str
    copies: float
    """Median time over the median time of the copy measured in the same alternation."""
    low: float
    high: float
    """Quartiles of the time over the median time of the copy."""
    milliseconds: float


def operations(z: Tensor, compiled: bool) -> dict[str, Callable[[], object]]:
    """The operations by name, each a function without arguments that works on ``z`` (tokens, neurons)."""
    n_neurons = z.shape[1]
    destination = torch.empty_like(z)
    moments = RunningMoments(n_neurons).to(z.device)
    moments.update(z)
    mean, var = moments.mean.clone(), moments.var.clone()
    phi = monosemantic_scale(z, mean, var)
    state = SiteState((n_neurons,), None, MovingThreshold(SHARE)).to(z.device)
    threshold = MovingThreshold(SHARE).to(z.device)
    k = round(SHARE * phi.numel())

    def plain_chain():  # what observe() would be, written as separate tensor operations
        d = z - mean
        d2 = d * d
        mask = d2 / var >= threshold.tau
        return d.sum(0), d2.sum(0), mask, torch.count_nonzero(mask)

    table = {
        "copy": lambda: destination.copy_(z),
        "moments": lambda: moments.update(z),
        "torch.var_mean": lambda: torch.var_mean(z, 0),
        "phi": lambda: monosemantic_scale(z, mean, var),
        "threshold": lambda: threshold(phi),
        "moments + phi + threshold": lambda: state.observe(z, 0.01, 0),
        "the same, plain": plain_chain,
        "top-1 of a token": lambda: TopK(k=1)(phi),
        "top 2 % by topk": lambda: TopK(share=SHARE)(phi),
        "top 2 % by sort": lambda: phi >= phi.flatten().sort(descending=True).values[k - 1],
        "top 2 % by quantile": lambda: phi >= torch.quantile(phi, 1 - SHARE),
    }
    if compiled:
        # Left out: the copy (the unit), and what a compiler hands to the same sorting kernels.
        keep = ("moments", "phi", "threshold", "moments + phi + threshold", "the same, plain")
        table = {"copy": table["copy"], **{name: torch.compile(table[name], dynamic=False) for name in keep}}
    return table


def measure(
    neurons: int, threads: int = 1, device: str = "cpu", compiled: bool = False, repeats: int = 15, seed: int = 0
) -> list[Row]:
    """Times every operation at one width, in turns, so that a slow moment of the machine hits all of them alike.

    An operation that takes long is repeated less often (three times at least). The values are drawn from Student's t
    with five degrees of freedom: heavy-tailed, as activations are.
    """
    tokens = min(2048, QUANTILE_LIMIT // neurons)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times = in_turns(operations(heavy_tailed(tokens, neurons, seed).to(device), compiled), repeats, 3.0, device)
    finally:
        torch.set_num_threads(before)
    return in_copies(times, (neurons, tokens, threads, device, "compiled" if compiled else "eager"))


def heavy_tailed(tokens: int, neurons: int, seed: int = 0) -> Tensor:
    """(tokens, neurons) draws of Student's t with five degrees of freedom: heavy-tailed, as activations are."""
    generator = torch.Generator().manual_seed(seed)
    chi2 = torch.randn(5, tokens, neurons, generator=generator).square().sum(0)
    return torch.randn(tokens, neurons, generator=generator) / (chi2 / 5).sqrt()


def in_turns(
    table: dict[str, Callable[[], object]],
    repeats: int,
    budget: float,
    device: str = "cpu",
    done: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of every call, one after the other again and again: ``repeats`` times each, or as many as fit in
    ``budget`` seconds, but at least three. ``done`` is called after each."""
    first = {name: seconds(call, device, warm=True) for name, call in table.items()}
    wanted = {name: max(3, min(repeats, int(budget / max(first[name], 1e-6)))) for name in table}
    times: dict[str, list[float]] = {name: [] for name in table}
    for turn in range(max(wanted.values())):
        for name, call in table.items():
            if turn < wanted[name]:
                times[name].append(seconds(call, device))
                done()
    return times


def in_copies(times: dict[str, list[float]], place: tuple[int, int, int, str, str]) -> list[Row]:
    """A row a call, with its times over the median time of the call "copy". ``place``: the first columns of a row."""
    unit = statistics.median(times["copy"])
    rows = []
    for name, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        rows.append(Row(*place, name, middle / unit, low / unit, high / unit, 1e3 * middle))
    return rows


def seconds(call: Callable[[], object], device: str = "cpu", warm: bool = False) -> float:
    """Wall-clock seconds of one call; ``warm``: of a second one."""
    if warm:
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plan(
    neurons: tuple[int, ...], threads: tuple[int, ...], devices: tuple[str, ...], compiled: bool
) -> Iterator[dict]:
    """The settings to measure, one :func:`measure` call each; threads matter on the CPU only."""
    for device in devices:
        for count in threads if device == "cpu" else (1,):
            for mode in (False, True) if compiled else (False,):
                for width in neurons:
                    yield {"neurons": width, "threads": count, "device": device, "compiled": mode}


def compiler_missing() -> str | None:
    """Why ``torch.compile`` cannot run on this machine's CPU, or None."""
    return None if shutil.which("g++") or shutil.which("clang++") else "no C++ compiler (g++ or clang++) on the PATH"


def table(rows: list[Row]) -> str:
    """One table a device, thread count and mode: operations down, widths across, in copies."""
    blocks = []
    for device, threads, mode in dict.fromkeys((r.device, r.threads, r.mode) for r in rows):
        part = [r for r in rows if (r.device, r.threads, r.mode) == (device, threads, mode)]
        widths = sorted({r.neurons for r in part})
        cells = {(r.operation, r.neurons): r for r in part}
        where = f"{device}, {threads} thread{'s' if threads > 1 else ''}" if device == "cpu" else device
        lines = [f"{where}, {mode}: time in copies of the activations (quartiles)"]
        lines.append(f"{'neurons':28}" + "".join(f"{w:>25,}" for w in widths))
        for name in dict.fromkeys(r.operation for r in part):
            got = [cells[name, w] for w in widths]
            lines.append(f"{name:28}" + "".join(f"{f'{r.copies:.2f} ({r.low:.2f}-{r.high:.2f})':>25}" for r in got))
        copies = [f"{cells['copy', w].milliseconds:.3g}" for w in widths]
        lines.append(f"{'one copy, ms':28}" + "".join(f"{c:>25}" for c in copies))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_record(rows: list[Row]) -> list[dict]:
    """The rows as plain dictionaries, for a JSON file."""
    return [asdict(row) for row in rows]
