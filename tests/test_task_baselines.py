"""Baselines of a task: planted leaks are found, fair tasks stay at chance, and the record goes on where it was."""

import json

import numpy as np
import pytest

from l2e_min.lab.finetuning import baselines as module
from l2e_min.lab.finetuning.baselines import baselines, chance, interval, leaks, main, measured, predictions, record
from l2e_min.lab.finetuning.pair_features import FEATURES, PairFeatures
from l2e_min.lab.finetuning.task import Rows, Task

WORDS = [a + b + c for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]


def planted(where, n=240, seed=0):
    """A pair task whose label stands in one word of the side `where`, in what the sides share, or nowhere."""
    rng = np.random.default_rng(seed)

    def part(n):
        first, second, labels = [], [], np.arange(n) % 2
        for label in labels:
            a, b = rng.choice(WORDS, 8), rng.choice(WORDS, 8)
            if where == "both":  # the same words on both sides, or others
                b = rng.permutation(a) if label else b
            elif where:
                (a if where == "first" else b)[rng.integers(8)] = "zyx" if label else "xyz"
            first.append(" ".join(a))
            second.append(" ".join(b))
        return Rows(tuple(first), tuple(second), labels.astype(np.int64), tuple(f"file{i // 6}" for i in range(n)))

    return Task("planted", "planted", "classification", "accuracy", ("no", "yes"), part(n), part(n // 2), part(n))


SLOW_FIXTURES = {"results"}  # of four planted tasks


@pytest.fixture(scope="module")
def results():
    return {where: measured(planted(where)) for where in ("first", "second", "both", None)}


@pytest.mark.parametrize("side", ["first", "second"])
def test_a_leak_on_one_side_is_found_and_named(results, side):
    other = "second" if side == "first" else "first"
    assert results[side]["scores"][f"{side}_only"] > 95
    assert results[side]["leaks"] == [f"{side}_only"]
    assert results[side]["scores"][f"{other}_only"] < 62


def test_what_both_sides_share_is_no_leak_and_overlap_finds_it(results):
    assert results["both"]["leaks"] == []
    assert results["both"]["scores"]["overlap"] > 95
    assert results["both"]["scores"]["bag_of_words"] > 90  # every text stands on one label: its own words are a trap
    assert max(results["both"]["scores"][side] for side in ("first_only", "second_only")) < 62


def test_nothing_planted_nothing_found(results):
    assert results[None]["leaks"] == []
    assert max(results[None]["scores"].values()) < 62


@pytest.mark.slow
def test_a_text_on_both_labels_is_exactly_chance():
    task = planted("both")
    twice = lambda rows: Rows((*rows.first, *rows.first), (*rows.second, *rows.second[1:], rows.second[0]),  # noqa: E731
                              np.repeat([1, 0], len(rows)), rows.sources * 2)  # fmt: skip
    fair = Task("fair", "", "classification", "accuracy", ("no", "yes"), *map(twice, (task.train, task.dev, task.test)))
    scores = baselines(fair)
    assert scores["first_only"] == scores["second_only"] == scores["majority"] == 50.0


def test_single_sentences_have_no_sides():
    task = planted("first")
    alone = lambda rows: Rows(rows.first, None, rows.labels, rows.sources)  # noqa: E731
    single = Task(
        "single", "", "classification", "matthews", ("no", "yes"), *map(alone, (task.train, task.dev, task.test))
    )
    scores = baselines(single)
    assert set(scores) == {"majority", "bag_of_words"}
    assert scores["majority"] == 0 and scores["bag_of_words"] > 90


@pytest.mark.slow
def test_regression_is_scored_by_rank():
    task = planted("both")
    graded = lambda rows: Rows(rows.first, rows.second, 3.0 * rows.labels, rows.sources)  # noqa: E731
    scores = baselines(
        Task("graded", "", "regression", "spearman", (), *map(graded, (task.train, task.dev, task.test)))
    )
    assert scores["majority"] == 0 and scores["overlap"] > 80


@pytest.mark.slow
def test_the_same_seed_gives_the_same_predictions():
    task = planted("both", n=80)
    once, again = predictions(task, 3), predictions(task, 3)
    assert all(np.array_equal(once[name][0], again[name][0]) and once[name][1] == again[name][1] for name in once)


@pytest.mark.slow
def test_settings_are_chosen_without_the_test_rows():
    task = planted("both", n=80)
    blind = Rows(task.test.first, task.test.second, 1 - task.test.labels, task.test.sources)
    other = Task("other", "", "classification", "accuracy", ("no", "yes"), task.train, task.dev, blind)
    assert [choice for _, choice in predictions(task).values()] == [choice for _, choice in predictions(other).values()]


def test_chance_of_each_metric():
    task = planted(None, n=40)
    of = lambda metric: chance(Task("t", "", "classification", metric, ("no", "yes"), *[task.test] * 3))  # noqa: E731
    assert [of(metric) for metric in ("accuracy", "f1", "matthews", "spearman")] == pytest.approx([50, 50, 0, 0])


def test_intervals_resample_files_not_rows():
    task = planted(None, n=60)
    constant = np.zeros(60, np.int64)
    assert interval(task, constant) == (50.0, 50.0)  # every file holds as many of either class
    half = np.where(np.arange(60) < 30, task.test.labels, 1 - task.test.labels)  # five files right, five wrong
    low, high = interval(task, half)
    assert low <= 25 and high >= 75  # 60 independent rows would give about 37 to 63


def test_a_leak_needs_margin_and_interval():
    task = planted(None, n=40)
    assert leaks(task, {"first_only": 53.0}, {"first_only": (51.0, 55.0)}) == ["first_only"]
    assert leaks(task, {"first_only": 52.0}, {"first_only": (51.0, 53.0)}) == []
    assert leaks(task, {"first_only": 56.0}, {"first_only": (49.0, 63.0)}) == []


def test_pair_features_by_hand():
    measure = PairFeatures(["the cat sat", "the dog"], ["the cat ran", "a bird"])
    row = dict(zip(FEATURES, measure(["the cat sat"], ["the cat ran off"])[0], strict=True))
    assert row["words shared"] == pytest.approx(2 / 5)
    assert (row["of A in B"], row["of B in A"]) == pytest.approx((2 / 3, 2 / 4))
    rarity = {"the": np.log(5 / 4), "cat": np.log(5 / 3), "sat": np.log(5 / 2), "ran": np.log(5 / 2), "off": np.log(5)}
    assert row["rarest shared"] == pytest.approx(rarity["cat"])
    assert row["rare words shared"] == pytest.approx((rarity["the"] + rarity["cat"]) / sum(rarity.values()))
    assert row["length ratio"] == pytest.approx(np.log(4 / 5))
    assert np.isfinite(measure([""], ["..."])).all()


def test_the_record_keeps_what_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUILD", tmp_path)
    task, out = planted("both", n=60), tmp_path / "results" / "record.json"
    made = record([task], out)
    assert json.loads(out.read_text()) == json.loads(json.dumps(made))
    assert made["tasks"]["planted"]["rows"] == [60, 30, 60] and {"python", "sklearn"} <= set(made["versions"])
    with monkeypatch.context() as patch:
        patch.setattr(module, "measured", None)  # cannot measure: must be kept
        assert record([task], out)["tasks"] == made["tasks"]
        with pytest.raises(TypeError):
            record([planted("first", n=60)], out)  # other rows: to be measured again


def test_the_command_refuses_an_unknown_task(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "record.json"), "--tasks", "cola"]) == 2
    assert "no task 'cola' in the mini GLUE" in capsys.readouterr().err
