"""From the rows of the comparison to differences with intervals: what the claims are judged by."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from l2e_min.lab.ledger.measurement import Measurement
from l2e_min.lab.pretraining_study.plan import (
    EARLY,
    GRID_RATE,
    L2E,
    LONG,
    LOW_RATE,
    PLACE_SIZE,
    SCALES,
    SEEDS,
    SIZE,
    Rows,
    Run,
    best_rate,
    find,
)

REMOVED, HEAVY = "zeroed", "l2e .01"
"""B03: what removes the MLPs, and the weight from which on the penalty was first seen to do the same."""

Number = Callable[[dict], float]


def seeds_of(rows: Rows, run: Run) -> list[int]:
    """The reported seeds with which a run has been made."""
    return [seed for seed in range(1, 100) if find(rows, replace(run, seed=seed)) is not None]


def loss(row: dict) -> float:
    """Held-out loss, nats a token."""
    return row["validation_loss"]


def at(*names: str) -> Number:
    """The number under these keys of a row."""

    def number(row: dict) -> float:
        for name in names:
            row = row[name]
        return row

    return number


def values(rows: Rows, run: Run, number: Number = loss, seeds: Sequence[int] | None = None) -> list[float]:
    """A number of a run, for every seed with which it has been made (or for ``seeds``; KeyError where one is not)."""
    found = []
    for seed in seeds_of(rows, run) if seeds is None else seeds:
        row = find(rows, replace(run, seed=seed))
        if row is None:
            raise KeyError(f"{replace(run, seed=seed)} has not been run")
        found.append(number(row))
    return found


def difference(
    rows: Rows, run: Run, other: Run, number: Number = loss, seeds: Sequence[int] | None = None
) -> Measurement:
    """``run`` minus ``other``, paired by seed, over the seeds that both have (or ``seeds``); at least two."""
    if seeds is None:
        seeds = [seed for seed in seeds_of(rows, run) if find(rows, replace(other, seed=seed))]
    pairs = zip(values(rows, run, number, seeds), values(rows, other, number, seeds), strict=True)
    return Measurement.over_seeds([a - b for a, b in pairs])


def best(rows: Rows, treatment: str, steps: int | None = None, size: str = SIZE) -> Run:
    """A treatment at its own best rate; the seed is filled in by who asks."""
    run = Run(treatment, best_rate(rows, treatment, size), SEEDS[0], size)
    return run if steps is None else replace(run, steps=steps)


def b03(rows: Rows) -> dict[str, Measurement]:
    """Does the penalty gain what removing the MLPs gains, and is that gone when plain is tuned or trained longer?"""
    low = {name: Run(name, LOW_RATE, SEEDS[0]) for name in ("plain", HEAVY, REMOVED)}
    return {
        "penalty_minus_plain_low_rate": difference(rows, low[HEAVY], low["plain"]),
        "penalty_minus_removed": difference(rows, low[HEAVY], low[REMOVED]),
        "penalty_minus_plain_best_rate": difference(rows, best(rows, HEAVY), best(rows, "plain")),
        "penalty_minus_plain_long": difference(rows, best(rows, HEAVY, LONG), best(rows, "plain", LONG)),
    }


def c17(rows: Rows) -> dict[str, Measurement]:
    """Changes of log kurtosis in the first tenth of training, at the common rate; with ``late_`` those from a trained
    model on."""
    early = {name: Run(name, LOW_RATE, SEEDS[0]) for name in ("plain", "memel", L2E)}
    peak = best_rate(rows, "plain")
    late = {name: Run(name, peak / 10, SEEDS[0], steps=EARLY, start=peak) for name in early}
    found = {}
    for label, runs, number in (
        ("", early, at("early_look", "log_kurtosis")),
        ("late_", late, at("look", "log_kurtosis")),
    ):
        found[f"{label}change_reverse"] = difference(rows, runs["memel"], runs["plain"], number)
        found[f"{label}change_log_ms"] = difference(rows, runs[L2E], runs["plain"], number)
        found[f"{label}reverse_minus_log_ms"] = difference(rows, runs["memel"], runs[L2E], number)
    return found


def b05(rows: Rows) -> dict[str, Measurement]:
    """The penalty's change of log top MS with fresh moments minus that with cumulative ones."""
    run, plain = best(rows, L2E), replace(best(rows, L2E), treatment="plain")
    if find(rows, plain) is None:
        plain = best(rows, "plain")
    return {
        "fresh_minus_cumulative": difference(
            rows, run, plain, lambda row: row["look"]["log_top_ms"] - row["look"]["log_top_ms_cumulative"]
        ),
        "change_fresh": difference(rows, run, plain, at("look", "log_top_ms")),
        "change_cumulative": difference(rows, run, plain, at("look", "log_top_ms_cumulative")),
    }


def b02(rows: Rows) -> dict[str, Measurement]:
    """What training does to S^2 and MS under both forms at weight .01, each at its own best rate."""
    plain = best(rows, "plain")
    log_ms, invariant = best(rows, HEAVY), best(rows, "invariant .01")
    return {
        "log_variance_log_ms": difference(rows, log_ms, plain, at("look", "log_variance")),
        "log_variance_invariant": difference(rows, invariant, plain, at("look", "log_variance")),
        "log_kurtosis_invariant": difference(rows, invariant, plain, at("look", "log_kurtosis")),
        "loss_invariant": difference(rows, invariant, plain),
    }


def mean_accuracy(shots: str = "zero", names: Sequence[str] = ()) -> Number:
    """Mean accuracy in points over tasks (default: all) of a row of answers."""
    return lambda row: 100 * sum(row[shots][n] for n in names or row[shots]) / len(names or row[shots])


def c18(rows: Rows, answers: Rows, hard: Sequence[str], easy: Sequence[str]) -> dict[str, Measurement]:
    """L2E minus plain on hard and on easy tasks, averaged over scales."""
    found = {}
    for name, names in (("gain_hard", hard), ("gain_easy", easy)):
        gains = []
        for size in (SIZE, *SCALES):
            run, plain = best(rows, L2E, LONG, size), best(rows, "plain", LONG, size)
            number = mean_accuracy(names=names)
            ours, theirs = (values(answers, each, number, SEEDS) for each in (run, plain))
            gains.append([a - b for a, b in zip(ours, theirs, strict=True)])
        found[name] = Measurement.over_seeds(
            [sum(seed) / len(gains) for seed in zip(*gains, strict=True)], unit="points"
        )
    return found


def c19(rows: Rows, answers: Rows) -> dict[str, Measurement]:
    """The middle against the first and the last layers, in points and in loss."""
    runs = {
        place: Run(L2E, GRID_RATE, SEEDS[0], PLACE_SIZE, layers=f"{place}-2") for place in ("first", "middle", "last")
    }
    found = {}
    for place in ("first", "last"):
        found[f"middle_minus_{place}"] = difference(answers, runs["middle"], runs[place], mean_accuracy())
        found[f"loss_middle_minus_{place}"] = difference(rows, runs["middle"], runs[place])
    return found
