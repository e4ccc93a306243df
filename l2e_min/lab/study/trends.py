"""From the rows of a study to the numbers that the claims ask for: slopes over scale, at equal steps or equal loss.

A row is one model (see ``run.study``). ``value`` picks one number of a row. Every seed is fitted by itself; the
interval is Student's t over seeds, so it holds what training from other initial weights would have changed.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger.measurement import Measurement

Row = dict
Value = Callable[[Row], float | None]


def of(dataset: str, name: str) -> Value:
    """Picks a measure by its name."""
    return lambda row: row["datasets"][dataset].get(name)


def runs(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """(scale, seed) -> the rows of that run, by step; small scales first. Step -1 stands for the end."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda r: (r["parameters"], r["seed"], r["step"] < 0, r["step"])):
        found[row["scale"], row["seed"]].append(row)
    return dict(found)


def final(rows: Sequence[Row]) -> list[Row]:
    """The end of training of every run."""
    return [run[-1] for run in runs(rows).values()]


def at_step(rows: Sequence[Row], step: int) -> list[Row]:
    """The rows after so many steps."""
    return [run_row for run in runs(rows).values() for run_row in run if run_row["step"] == step]


def points(rows: Sequence[Row], value: Value) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """seed -> (log10 of the parameters, values) over the scales, leaving out rows without the value."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["parameters"]):
        if value(row) is not None:
            found[row["seed"]].append((np.log10(row["parameters"]), value(row)))
    return {seed: tuple(np.array(pairs).T) for seed, pairs in sorted(found.items())}


def slope(found: dict[int, tuple[np.ndarray, np.ndarray]]) -> Measurement:
    """Slope of ``points``: its mean over seeds. With one seed (a published model) the interval is that of the line."""
    found = {seed: (x, y) for seed, (x, y) in found.items() if len(x) > 1}
    if not found:
        raise UserError("a slope over scale needs models of at least two scales")
    if len(found) > 1:
        each = [float(np.polyfit(x, y, 1)[0]) for x, y in found.values()]
        return Measurement.over_seeds(each, n=max(len(x) for x, _ in found.values()))
    from scipy import stats

    ((x, y),) = found.values()
    if len(x) < 3:
        raise UserError("one seed at two scales has a slope, but no interval; expected more scales or more seeds")
    line = stats.linregress(x, y)
    half = stats.t.ppf(0.975, len(x) - 2) * line.stderr
    return Measurement(line.slope, line.slope - half, line.slope + half, seeds=1, n=len(x))


def slope_over_scale(rows: Sequence[Row], value: Value) -> Measurement:
    """Slope of ``value`` against log10 of the parameters at the end of training (C04 to C07, C09)."""
    return slope(points(final(rows), value))


def at_loss(run: Sequence[Row], bits_per_byte: float, value: Value) -> float | None:
    """``value`` where a run's held-out loss passes ``bits_per_byte``, on the line between the two nearest rows.

    None where the run never got there or began below.
    """
    for before, after in pairwise(run):
        high, low = before["bits_per_byte"], after["bits_per_byte"]
        if high >= bits_per_byte >= low and value(before) is not None and value(after) is not None:
            part = (high - bits_per_byte) / (high - low) if high > low else 1.0
            return value(before) + part * (value(after) - value(before))
    return None


def points_at_matched_loss(rows: Sequence[Row], value: Value) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """``points`` where every scale has the loss that the smallest one ends at, seed by seed (B04)."""
    by_run, found = runs(rows), {}
    for seed in sorted({seed for _, seed in by_run}):
        mine = [run for (_, s), run in by_run.items() if s == seed]
        target = mine[0][-1]["bits_per_byte"]
        pairs = [(np.log10(run[-1]["parameters"]), at_loss(run, target, value)) for run in mine]
        found[seed] = tuple(np.array([(x, y) for x, y in pairs if y is not None]).T)
    return found


def over_seeds(rows: Sequence[Row], value: Value) -> dict[str, Measurement]:
    """scale -> mean over seeds of ``value`` with its interval; a single seed is exact."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda r: r["parameters"]):
        if value(row) is not None:
            found[row["scale"]].append(value(row))
    return {
        scale: Measurement.over_seeds(values) if len(values) > 1 else Measurement.exact(values[0])
        for scale, values in found.items()
    }
