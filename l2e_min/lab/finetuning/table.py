"""W24's Table 1 and Table 9 from the rows of a comparison: means, intervals and paired differences."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.protocol import ALL_TITLES, Protocol, find
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.ledger.measurement import Measurement


def scores(rows: Sequence[dict], protocol: Protocol, method: str, split: str = "test") -> dict[str, np.ndarray]:
    """{task: (seeds,)} in points: the reported scores of a method, or control, in the order of ``protocol.seeds``."""
    found = {}
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        runs = [find(mine, settings) for settings in protocol.reported(mine)[method]]
        if any(run is None for run in runs):
            raise UserError(f"runs of {method} on {task} are missing; the same command goes on with them")
        found[task] = np.array([run[split] for run in runs], dtype=np.float64)
    return found


def average(by_task: dict[str, np.ndarray]) -> np.ndarray:
    """(seeds,): the mean over tasks, as in the last column of W24 Table 1."""
    return np.mean(list(by_task.values()), axis=0)


def difference(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, Measurement]:
    """First minus second in points, paired by seed, with Student's interval: by task, and for the "average"."""
    if first.keys() != second.keys():
        raise ValueError(f"other tasks: {sorted(first)} and {sorted(second)}")
    by_task = {task: first[task] - second[task] for task in first}
    return {
        name: Measurement.over_seeds(values.tolist(), unit="points")
        for name, values in {**by_task, "average": average(by_task)}.items()
    }


def paired_t_test(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> tuple[float, float]:
    """(t, p) of W24 Table 9: two-sided, paired over the tasks' means. With few tasks it has little power."""
    pairs = [(first[task].mean(), second[task].mean()) for task in first]
    result = stats.ttest_rel(*zip(*pairs, strict=True))
    return float(result.statistic), float(result.pvalue)


def table(rows: Sequence[dict], protocol: Protocol, names: Iterable[str], split: str = "test") -> list[dict]:
    """A row a method, as W24 Table 1: {"method": name, task: (mean, half width), ..., "average": (mean, half width)}.

    Half widths are of 95 % intervals (Student's t over seeds).
    """
    lines = []
    for name in names:
        by_task = scores(rows, protocol, name, split)
        columns = {**by_task, "average": average(by_task)}
        lines.append({"method": name, **{column: mean_and_half(values) for column, values in columns.items()}})
    return lines


def mean_and_half(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of the 95 % interval of Student's t; NaN for a single value."""
    if len(values) < 2:
        return float(values.mean()), float("nan")
    measured = Measurement.over_seeds(values.tolist())
    return measured.value, measured.high - measured.value


def as_text(rows: Sequence[dict], protocol: Protocol, tasks: Sequence[Task]) -> str:
    """The table for a terminal, with MEmeL's differences from plain fine-tuning where both were run."""
    names = [task.name for task in tasks]
    rows = [row for row in rows if row["task"] in names]
    lines = table(rows, protocol, (*protocol.methods, *protocol.extra))
    columns = [*names, "average"]
    body = [
        [ALL_TITLES.get(line["method"], line["method"]), *(plus_minus(*line[c]) for c in columns)] for line in lines
    ]
    cells = [["points", *columns], *body]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns) + 1)]
    text = "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)
    metrics = ", ".join(f"{task.name}: {task.metric}" for task in tasks)
    text += f"\n{metrics}; mean and half width of the 95 % interval over {len(protocol.seeds)} seeds, test rows"
    if len(protocol.seeds) > 1 and "plain" in protocol.methods:
        plain = scores(rows, protocol, "plain")
        for name in protocol.methods:
            if name != "plain":
                m = difference(scores(rows, protocol, name), plain)["average"]
                text += f"\n{ALL_TITLES[name]} minus original: {m.value:+.2f} [{m.low:+.2f}, {m.high:+.2f}] points"
    return text


def plus_minus(mean: float, half: float) -> str:
    """ "67.1 ±0.8", or the mean alone where there is no interval."""
    return f"{mean:.1f}" if np.isnan(half) else f"{mean:.1f} ±{half:.1f}"
