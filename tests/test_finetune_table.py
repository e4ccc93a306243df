"""W24's tables from rows: means, Student's intervals by hand, paired differences, and scipy's paired test."""

import math
from dataclasses import replace

import numpy as np
import pytest
from finetune_data import planted_task
from scipy import stats

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning import table as t
from l2e_min.lab.finetuning.protocol import Protocol, unique

SEEDS = (0, 1, 2, 3)
T_975 = {2: 12.7062047, 3: 4.30265273, 4: 3.18244631}
"""Student's t at .975 by the number of seeds, as printed tables have it."""

PROTOCOL = Protocol(methods=("plain", "memel", "memel_tune"), extra=("random",), seeds=SEEDS, trials=2, rates=(1e-3,))


def made(protocol=PROTOCOL, tasks=("a", "b", "c"), seed=0):
    """({method: {task: scores by seed}}, rows of a finished comparison in an order of their own)."""
    rng = np.random.default_rng(seed)
    rows, truth = [], {}
    for task in tasks:
        mine = [
            {"task": task, **s.key(), "dev": float(rng.random()), "test": float(rng.normal(70, 5))}
            for s in protocol.first_runs()
        ]
        reported = protocol.reported(mine)
        for settings in unique([run for group in reported.values() for run in group]):
            if not any(all(row[k] == v for k, v in settings.key().items()) for row in mine):
                mine.append({"task": task, **settings.key(), "dev": 0.0, "test": float(rng.normal(70, 5))})
        for name, runs in reported.items():
            found = [next(row for row in mine if all(row[k] == v for k, v in s.key().items())) for s in runs]
            truth.setdefault(name, {})[task] = [row["test"] for row in found]
        rows += [mine[i] for i in rng.permutation(len(mine))]
    return truth, rows


def half_by_hand(values) -> float:
    n = len(values)
    mean = sum(values) / n
    s = math.sqrt(sum((x - mean) ** 2 for x in values) / (n - 1))
    return T_975[n] * s / math.sqrt(n)


def test_scores_are_those_of_the_choice_in_the_order_of_the_seeds():
    truth, rows = made()
    for name, by_task in truth.items():
        found = t.scores(rows, PROTOCOL, name)
        assert found.keys() == by_task.keys()
        for task, values in by_task.items():
            assert found[task].tolist() == values


def test_the_table_has_means_and_student_s_half_widths():
    truth, rows = made()
    lines = t.table(rows, PROTOCOL, ("plain", "memel_tune", "random"))
    assert [line["method"] for line in lines] == ["plain", "memel_tune", "random"]
    for line in lines:
        by_task = truth[line["method"]]
        for task, values in by_task.items():
            assert line[task] == pytest.approx((sum(values) / 4, half_by_hand(values)), rel=1e-6)
        by_seed = [sum(by_task[task][i] for task in by_task) / 3 for i in range(4)]
        assert line["average"] == pytest.approx((sum(by_seed) / 4, half_by_hand(by_seed)), rel=1e-6)


def test_differences_are_paired_by_seed():
    truth, rows = made()
    found = t.difference(t.scores(rows, PROTOCOL, "memel"), t.scores(rows, PROTOCOL, "plain"))
    assert list(found) == ["a", "b", "c", "average"]
    for task in "abc":
        differences = [m - p for m, p in zip(truth["memel"][task], truth["plain"][task], strict=True)]
        mean, half = sum(differences) / 4, half_by_hand(differences)
        measured = found[task]
        assert (measured.value, measured.low, measured.high) == pytest.approx(
            (mean, mean - half, mean + half), rel=1e-6
        )
        assert (measured.seeds, measured.unit) == (4, "points")
    by_seed = [sum(truth["memel"][task][i] - truth["plain"][task][i] for task in "abc") / 3 for i in range(4)]
    assert found["average"].value == pytest.approx(sum(by_seed) / 4)
    assert found["average"].high - found["average"].value == pytest.approx(half_by_hand(by_seed), rel=1e-6)


def test_a_shift_that_every_seed_shares_has_no_spread():
    """Pairing takes out what a seed does to both: the interval of a constant gain is a point."""
    plain = {"a": np.array([60.0, 70.0, 80.0]), "b": np.array([10.0, 50.0, 90.0])}
    better = {task: values + 1 for task, values in plain.items()}
    found = t.difference(better, plain)["average"]
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_other_tasks_cannot_be_subtracted():
    with pytest.raises(ValueError, match=r"other tasks: \['a'\] and \['b'\]"):
        t.difference({"a": np.ones(2)}, {"b": np.ones(2)})


def test_the_paired_test_is_that_of_w24_table_9():
    """t = mean / (s / sqrt n) of the tasks' differences, by hand and by scipy's test of one sample."""
    truth, rows = made(tasks=tuple("abcdefgh"))
    first, second = (t.scores(rows, PROTOCOL, name) for name in ("memel_tune", "plain"))
    statistic, p = t.paired_t_test(first, second)
    gains = np.array([np.mean(truth["memel_tune"][task]) - np.mean(truth["plain"][task]) for task in "abcdefgh"])
    slow = gains.mean() / (math.sqrt(((gains - gains.mean()) ** 2).sum() / 7) / math.sqrt(8))
    assert statistic == pytest.approx(slow) and p == pytest.approx(2 * stats.t.sf(abs(slow), 7))
    other = stats.ttest_1samp(gains, 0)
    assert (statistic, p) == pytest.approx((other.statistic, other.pvalue))
    swapped = t.paired_t_test(dict(reversed(second.items())), first)
    assert swapped == pytest.approx((-statistic, p)), "tasks are paired by name, whatever their order"


def test_w24_s_own_p_value_comes_out():
    """W24 Table 1, original and MEmeL-Tune, nine columns: two-sided .037. Its Table 9 says 0.02, the one-sided half."""
    original = [84.6, 83.4, 71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4]
    tuned = [84.8, 83.9, 71.7, 91.2, 93.7, 55.7, 86.6, 89.0, 68.2]
    as_scores = [{str(i): np.array([x]) for i, x in enumerate(column)} for column in (tuned, original)]
    statistic, p = t.paired_t_test(*as_scores)
    assert (statistic, p) == pytest.approx((2.494, 0.0372), abs=0.001) and round(p / 2, 2) == 0.02


def test_a_single_seed_has_no_interval():
    assert t.mean_and_half(np.array([5.0])) == (5.0, pytest.approx(float("nan"), nan_ok=True))
    assert t.plus_minus(67.08, 0.84) == "67.1 ±0.8" and t.plus_minus(67.08, float("nan")) == "67.1"


def test_a_missing_run_is_said():
    _, rows = made()
    last = next(row for row in rows if row["task"] == "b" and not row["pretrained"] and row["seed"] == 3)
    left = [row for row in rows if row is not last]
    assert t.scores(left, PROTOCOL, "plain")
    with pytest.raises(UserError, match="runs of random on b are missing; the same command goes on with them"):
        t.scores(left, PROTOCOL, "random")


def test_the_text_for_a_terminal():
    truth, rows = made()
    tasks = [planted_task("b"), planted_task("a")]
    text = t.as_text(rows, PROTOCOL, tasks).splitlines()
    assert text[0].split() == ["points", "b", "a", "average"]
    mean = sum(truth["memel_tune"]["b"]) / 4
    line = next(line for line in text if line.startswith("MEmeL-Tune  "))
    assert line.split()[1:3] == [f"{mean:.1f}", f"±{half_by_hand(truth['memel_tune']['b']):.1f}"]
    averages = [sum(truth["random"][task][i] for task in "ab") / 2 for i in range(4)]
    assert f"{sum(averages) / 4:.1f} ±{half_by_hand(averages):.1f}" in next(x for x in text if x.startswith("random"))
    assert "b: accuracy, a: accuracy; mean and half width of the 95 % interval over 4 seeds, test rows" in text
    gain = np.mean([np.subtract(truth["memel"][task], truth["plain"][task]) for task in "ab"], axis=0)
    said = next(line for line in text if line.startswith("MEmeL minus original: "))
    low, high = gain.mean() - half_by_hand(gain), gain.mean() + half_by_hand(gain)
    assert said == f"MEmeL minus original: {gain.mean():+.2f} [{low:+.2f}, {high:+.2f}] points"
    assert text[1].startswith("original  ") and not any("original minus" in line for line in text)


def test_one_seed_s_text_has_no_interval_and_no_difference():
    protocol = replace(PROTOCOL, seeds=(0,))
    text = t.as_text(made(protocol)[1], protocol, [planted_task("a")])
    assert "±" not in text and "minus" not in text and "over 1 seeds" in text
