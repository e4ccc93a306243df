"""From rows of the pretraining comparison to differences: planted numbers come back, pairs are of one seed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from l2e_min.lab.pretraining_study import differences as d
from l2e_min.lab.pretraining_study import overhead, plan, scores


def row(run: plan.Run, loss: float, **more) -> dict:
    return {"run": run.key, "validation_loss": loss, **more}


@pytest.fixture
def rows() -> list[dict]:
    """Searches in which plain does best at 4e-3 and everything else at 8e-3."""
    found = []
    for size in (plan.SIZE, *plan.SCALES):
        for t in plan.TREATMENTS:
            for rate in plan.RATES:
                best = 4e-3 if t == "plain" else 8e-3
                found.append(row(plan.Run(t, rate, plan.SEARCH_SEED, size), 3.0 + (rate != best)))
    return found


def test_differences_are_paired_by_seed(rows):
    plain, ours = plan.Run("plain", 4e-3, 1), plan.Run("l2e .01", 8e-3, 1)
    losses = {1: (3.0, 2.9), 2: (5.0, 4.8), 3: (4.0, 3.7)}
    for seed, (a, b) in losses.items():
        rows += [row(replace(plain, seed=seed), a), row(replace(ours, seed=seed), b)]
    rows.append(row(replace(ours, seed=4), 100.0))  # without a plain twin: left out
    found = d.difference(rows, d.best(rows, "l2e .01"), d.best(rows, "plain"))
    gaps = [-0.1, -0.2, -0.3]
    half = stats.t.ppf(0.975, 2) * np.std(gaps, ddof=1) / np.sqrt(3)
    assert found.seeds == 3 and found.value == pytest.approx(-0.2)
    assert (found.low, found.high) == pytest.approx((-0.2 - half, -0.2 + half))


def test_seeds_may_be_chosen_and_then_all_must_be_there(rows):
    plain, ours = plan.Run("plain", 4e-3, 1), plan.Run("l2e .01", 8e-3, 1)
    for seed, gap in {1: 0.5, 2: 0.5, 4: -0.1, 5: -0.3}.items():
        rows += [row(replace(plain, seed=seed), 3.0), row(replace(ours, seed=seed), 3.0 + gap)]
    assert d.difference(rows, ours, plain, seeds=(4, 5)).value == pytest.approx(-0.2)
    assert d.difference(rows, ours, plain).value == pytest.approx(0.15)
    with pytest.raises(KeyError, match="seed6"):
        d.difference(rows, ours, plain, seeds=(4, 5, 6))


def test_the_search_seed_is_never_reported(rows):
    assert d.seeds_of(rows, plan.Run("plain", 4e-3, 1)) == []
    with pytest.raises(ValueError, match="at least two"):
        d.difference(rows, d.best(rows, "memel"), d.best(rows, "plain"))


def test_missing_seeds_are_named(rows):
    with pytest.raises(KeyError, match="seed7"):
        d.values(rows, plan.Run("plain", 4e-3, 1), seeds=[7])


def test_b03_compares_what_it_says(rows):
    places = {
        "low": lambda t: plan.Run(t, plan.LOW_RATE, 1),
        "best": lambda t: d.best(rows, t),
        "long": lambda t: d.best(rows, t, plan.LONG),
    }
    planted = {"plain": (3.6, 3.5, 3.3), d.HEAVY: (3.5, 3.52, 3.34), d.REMOVED: (3.51, 9.0, 9.0)}
    for t, losses in planted.items():
        for loss, run in zip(losses, places.values(), strict=True):
            rows += [row(replace(run(t), seed=seed), loss + seed) for seed in plan.SEEDS]
    found = {name: m.value for name, m in d.b03(rows).items()}
    assert found == pytest.approx(
        {
            "penalty_minus_plain_low_rate": -0.1,
            "penalty_minus_removed": -0.01,
            "penalty_minus_plain_best_rate": 0.02,
            "penalty_minus_plain_long": 0.04,
        }
    )


@pytest.mark.slow
def test_c17_takes_the_early_and_the_late_looks(rows):
    kurtosis = {"plain": (2.0, 3.0), "memel": (1.9, 2.5), d.L2E: (1.0, 3.5)}
    for t, (early, late) in kurtosis.items():
        for seed in plan.SEEDS:
            run = plan.Run(t, plan.LOW_RATE, seed)
            rows.append(row(run, 3.0, early_look={"log_kurtosis": early + seed}, look={"log_kurtosis": -99.0}))
            run = plan.Run(t, 4e-4, seed, steps=plan.EARLY, start=4e-3)
            rows.append(row(run, 3.0, look={"log_kurtosis": late + seed}))
    found = {name: m.value for name, m in d.c17(rows).items()}
    assert found["change_reverse"] == pytest.approx(-0.1) and found["change_log_ms"] == pytest.approx(-1.0)
    assert found["late_change_reverse"] == pytest.approx(-0.5) and found["late_change_log_ms"] == pytest.approx(0.5)
    assert found["reverse_minus_log_ms"] == pytest.approx(0.9)


def test_c18_averages_over_scales_and_tasks(rows):
    answers = []
    for number, size in enumerate((plan.SIZE, *plan.SCALES)):
        for t, gain in (("plain", 0.0), (d.L2E, 0.01 * (number + 1))):  # 1, 2 and 3 points: 2 on average
            for seed in plan.SEEDS:
                tasks = {"a": 0.30 + gain + 0.01 * seed, "b": 0.34 + gain, "easy": 0.6 - gain}
                answers.append({"run": replace(d.best(rows, t, plan.LONG, size), seed=seed).key, "zero": tasks})
    found = d.c18(rows, answers, ["a", "b"], ["easy"])
    assert found["gain_hard"].value == pytest.approx(2.0) and found["gain_easy"].value == pytest.approx(-2.0)
    assert found["gain_hard"].seeds == len(plan.SEEDS)


def test_hard_tasks_are_those_of_another_seed(rows):
    splitter = scores.splitter(rows)
    assert splitter == plan.Run("plain", 4e-3, plan.SEARCH_SEED)
    tasks = {"a": 0.3, "b": 0.9, "c": 0.5, "d": 0.4}
    answers = [{"run": replace(splitter, seed=1).key, "zero": {n: 0.0 for n in tasks}}]
    answers.append({"run": splitter.key, "zero": tasks})
    assert scores.hard_tasks(answers, rows) == (["a", "d"], ["c", "b"])


def test_overheads_and_their_slope(tmp_path):
    sizes = {"64x3": 10**5, "128x4": 10**6, "256x6": 10**7}
    for run in (1, 2, 3):
        found = []
        for number, (size, parameters) in enumerate(sizes.items()):
            place = {"size": size, "parameters": parameters}
            found.append({**place, "method": "plain", "ratio": 1.0, "memory": 100})
            added = 0.12 - 0.05 * number + 0.01 * run
            found.append({**place, "method": overhead.L2E, "ratio": 1 + added, "memory": 103})
        (tmp_path / f"{run}.json").write_text(json.dumps({"rows": found}))
    by_size = overhead.overheads(overhead.L2E, folder=tmp_path)
    assert by_size["128x4"] == pytest.approx([8.0, 9.0, 10.0])
    assert overhead.overheads(overhead.L2E, "memory", tmp_path)["64x3"] == pytest.approx([3.0] * 3)
    slope = overhead.slope(overhead.L2E, tmp_path)
    assert slope.value == pytest.approx(-5.0) and slope.seeds == 3  # percentage points a tenfold growth
    mean = overhead.resampled([1.0, 2.0, 3.0])
    assert mean.value == 2.0 and 1.0 <= mean.low < 2.0 < mean.high <= 3.0
