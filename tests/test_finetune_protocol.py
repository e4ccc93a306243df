"""The protocol: dev rows alone decide, tuned methods get equal budgets, and a run that is missing is said."""

import math
from dataclasses import replace

import numpy as np
import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.methods import TITLES, Method
from l2e_min.lab.finetuning.protocol import ALL_TITLES, GRID, TUNED, Protocol, find, unique
from l2e_min.lab.finetuning.run import FineTuneSettings


def rows_for(protocol: Protocol, dev=lambda settings: 50.0, **more) -> list[dict]:
    """What a finished search has left, with dev scores by a rule."""
    return [
        {"task": "t", **settings.key(), "dev": dev(settings), "test": 1.0, **more} for settings in protocol.first_runs()
    ]


def random_dev(seed):
    rng = np.random.default_rng(seed)
    return lambda settings: float(rng.random())


FULL = Protocol(extra=("random", "entry"))


# --- the runs


def test_every_method_searches_the_same_rates_with_the_first_seed():
    protocol = replace(FULL, seeds=(3, 4), rates=(1e-3, 2e-4))
    runs = protocol.first_runs()
    assert {run.seed for run in runs} == {3} and {run.pretrained for run in runs} == {True}
    for name in TITLES:
        plain = [run.learning_rate for run in runs if run.method == Method(name)]
        assert set(plain) >= {1e-3, 2e-4}
    assert len({tuple(run.key().items()) for run in runs}) == len(runs), "no run is made twice"


def test_only_what_is_needed_is_searched():
    for methods, extra, expected in (
        (("freeze",), (), ["freeze"]),
        (("memel_tune",), (), ["memel"]),
        (("plain_tune", "l2e"), (), ["plain", "l2e"]),
        (("freeze",), ("random",), ["plain", "freeze"]),
        (("freeze",), ("entry",), ["freeze", "memel"]),
    ):
        protocol = Protocol(methods=methods, extra=extra)
        assert protocol.searched() == expected
        assert {run.method.name for run in protocol.first_runs()} == set(expected)


@pytest.mark.parametrize("rates", [Protocol().rates, (5e-5, 4e-5, 3e-5, 2e-5)], ids=["mini", "W24"])
def test_both_tuned_methods_try_as_many_different_settings(rates):
    """Equal budgets: a trial that repeats the search would be one trial less."""
    protocol = Protocol(rates=rates)
    tried = {}
    for name, under in TUNED.items():
        searched = [replace(protocol.base, method=Method(under), learning_rate=rate) for rate in rates]
        tried[name] = unique([*searched, *protocol.trials_of(name)])
    assert len(tried["memel_tune"]) == len(tried["plain_tune"]) == len(rates) + protocol.trials


def test_the_trials_are_from_w24_s_grid_and_around_the_rates():
    protocol = Protocol(trials=72)
    trials = protocol.trials_of("memel_tune")
    assert GRID == (1, 5, 10, 50, 100) and len(trials) == len(unique(trials)) == 72, "all of 5 x 5 x 3 but k = D = 1"
    assert {(t.method.k, t.method.strength) for t in trials} == {(k, d) for k in GRID for d in GRID} - {(1, 1)}
    assert {t.method.name for t in trials} == {"memel"} and {t.learning_rate for t in trials} == set(protocol.rates)
    few = Protocol()
    assert few.trials_of("memel_tune") == Protocol().trials_of("memel_tune") and len(few.trials_of("memel_tune")) == 4
    rates = [t.learning_rate for t in few.trials_of("plain_tune")]
    assert {t.method for t in few.trials_of("plain_tune")} == {Method("plain")} and rates == sorted(set(rates))
    assert min(few.rates) / 2 < rates[0] < min(few.rates) and max(few.rates) < rates[-1] < 2 * max(few.rates)
    steps = np.diff(np.log(rates))
    assert steps.max() - steps.min() < 0.1, "evenly spread, to two digits"
    assert all(math.isclose(rate, float(f"{rate:.2g}")) for rate in rates)
    assert Protocol(trials=0).trials_of("plain_tune") == Protocol(trials=0).trials_of("memel_tune") == []


# --- the choice


@pytest.mark.parametrize("name", list(ALL_TITLES))
def test_the_best_on_dev_is_chosen(name):
    """By a slow search through everything the method was allowed to try."""
    under = TUNED.get(name, name)
    for seed in range(5):
        rows = rows_for(FULL, random_dev(seed))
        own = [row for row in rows if row["method"] == under]
        if name not in TUNED:
            own = [row for row in own if (row["k"], row["strength"]) == (1, 1) and row["learning_rate"] in FULL.rates]
        if name == "memel_tune":
            assert len(own) == 7
        best = max(own, key=lambda row: row["dev"])
        assert find([best], FULL.choose(name, rows)) is best


def test_the_test_rows_decide_nothing():
    rows = rows_for(FULL, random_dev(1))
    expected = FULL.reported(rows)
    rng = np.random.default_rng(2)
    for _ in range(5):
        for row in rows:
            row |= {
                "test": float(rng.random()),
                "test_on": float(rng.random()),
                "curve": {"dev": [float(rng.random())]},
            }
        assert FULL.reported(rows) == expected


def test_dev_rows_of_other_seeds_and_of_controls_decide_nothing():
    rows = rows_for(FULL, random_dev(1))
    expected = FULL.reported(rows)
    for settings in unique([run for group in expected.values() for run in group]):
        if find(rows, settings) is None:
            rows.append({"task": "t", **settings.key(), "dev": 99.0, "test": 1.0})
    assert FULL.reported(rows) == expected and len(rows) > len(rows_for(FULL))


def test_of_equals_the_earlier_is_chosen():
    rows = rows_for(FULL)
    for name in FULL.methods:
        chosen = FULL.choose(name, rows[::-1])
        assert chosen.learning_rate == FULL.rates[0] and (chosen.method.k, chosen.method.strength) == (1, 1)


def test_tuned_is_at_least_as_good_on_dev():
    for seed in range(10):
        rows = rows_for(FULL, random_dev(seed))
        for name, under in TUNED.items():
            assert find(rows, FULL.choose(name, rows))["dev"] >= find(rows, FULL.choose(under, rows))["dev"]


def test_what_is_reported_is_the_choice_with_every_seed_and_the_controls():
    protocol = replace(FULL, seeds=(7, 8, 9))
    rows = rows_for(protocol, random_dev(4))
    found = protocol.reported(rows)
    assert list(found) == [*protocol.methods, "random", "entry"]
    for name, runs in found.items():
        assert [run.seed for run in runs] == [7, 8, 9] and len({replace(run, seed=0) for run in runs}) == 1
        if name in protocol.methods:
            assert replace(runs[0], seed=7) == protocol.choose(name, rows)
    plain, memel = found["plain"][0], found["memel"][0]
    assert found["random"][0] == replace(plain, pretrained=False)
    assert found["entry"][0] == replace(memel, method=replace(memel.method, reading="entry"))


# --- keys


def test_a_run_is_found_by_everything_that_tells_it_from_another():
    base = FineTuneSettings(method=Method("memel", k=5, strength=10.0, reading="entry", weight=0.01, share=0.1), seed=2)
    row = {**base.key(), "dev": 1.0}
    assert find([{"x": 1}, row], base) is row
    for other in (
        replace(base, seed=3),
        replace(base, learning_rate=1e-4),
        replace(base, pretrained=False),
        *(replace(base, method=replace(base.method, **change)) for change in (
            {"name": "freeze"}, {"k": 1}, {"strength": 5.0}, {"reading": "neuron"}, {"weight": 0.1}, {"share": 0.2}
        )),
    ):  # fmt: skip
        assert find([row], other) is None
    assert unique([base, replace(base, seed=3), base]) == [base, replace(base, seed=3)]


def test_a_rate_of_many_digits_is_found_as_it_is_recorded():
    """A record keeps five digits."""
    from l2e_min.lab.record import rounded

    settings = FineTuneSettings(learning_rate=1e-3 / 3)
    row = rounded({**settings.key(), "dev": 1.0})
    assert row["learning_rate"] != settings.learning_rate and find([row], settings) is row


# --- bad input


def test_a_missing_run_is_said():
    rows = rows_for(FULL)
    for gone in range(len(rows)):
        with pytest.raises(UserError, match=r"the run {.*'learning_rate'.*} is missing: finish the search first"):
            FULL.reported(rows[:gone] + rows[gone + 1 :])
    assert FULL.reported(rows)


def test_bad_protocols_are_said():
    with pytest.raises(UserError, match=r"no such method: 'adam'; expected some of plain, freeze, .*plain_tune"):
        Protocol(methods=("plain", "adam"))
    for nothing in ("methods", "rates", "seeds"):
        with pytest.raises(UserError, match="needs at least one method, one learning rate and one seed"):
            Protocol(**{nothing: ()})
    with pytest.raises(UserError, match="learning_rate must be above 0, got -1"):
        Protocol(rates=(-1.0,)).first_runs()
