"""Probing: it finds what was planted, agrees with scikit-learn done by hand, and finds nothing in noise."""

import time

import numpy as np
import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.probing import null_neurons, probe, split_rows, top_neurons

FEATURES, ROWS, LAYERS, NEURONS = 5, 80, 3, 40


@pytest.fixture(scope="module")
def planted():
    """Noise with five neurons that tell a feature each, one of them by being low, and a dead neuron."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(FEATURES), ROWS)
    values = draw.normal(size=(FEATURES * ROWS, LAYERS, NEURONS))
    where = {f: (f % LAYERS, 7 * f) for f in range(FEATURES)}
    for feature, (layer, neuron) in where.items():
        values[labels == feature, layer, neuron] += -6 if feature == 4 else 6
    values[:, 0, 39] = 3.0
    values[:, 2] *= 1e-3  # a layer of another scale
    return values, labels, where


def test_planted_neurons_are_found(planted):
    values, labels, where = planted
    table = top_neurons(values, labels, n_best=5)
    assert {int(f): (int(a), int(b)) for f, a, b in zip(table.feature, table.layer, table.neuron, strict=True)} == where
    assert (table.f1 > 0.95).all()
    assert dict(zip(table.feature.tolist(), table.sign.tolist(), strict=True)) == {0: 1, 1: 1, 2: 1, 3: 1, 4: -1}


def test_scores_are_those_of_scikit_learn_by_hand(planted):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    values, labels, _ = planted
    table = probe(values, labels, candidates=3, seed=4)
    train, test = table.train_rows, table.test_rows
    assert not set(train) & set(test) and len(train) + len(test) == len(labels)
    assert np.array_equal(np.bincount(labels[test]), [ROWS // 2] * FEATURES)
    for row in range(0, len(table), 4):
        x, y = values[:, table.layer[row], table.neuron[row]], labels == table.feature[row]
        x = (x - x[train].mean()) / x[train].std()
        model = LogisticRegression(class_weight="balanced").fit(x[train, None], y[train])
        assert table.f1[row] == f1_score(y[test], model.predict(x[test, None]))
        assert table.f1_train[row] == f1_score(y[train], model.predict(x[train, None]))


def test_candidates_are_the_largest_differences_of_the_means(planted):
    values, labels, _ = planted
    table = probe(values, labels, candidates=4)
    flat, rows = values.reshape(len(values), -1), table.train_rows
    flat = flat / np.where(flat[rows].std(0) > 1e-9, flat[rows].std(0), np.inf)
    for feature in range(FEATURES):
        on = labels[rows] == feature
        difference = np.abs(flat[rows][on].mean(0) - flat[rows][~on].mean(0))
        mine = np.flatnonzero(table.feature == feature)
        got = set((table.layer[mine] * NEURONS + table.neuron[mine]).tolist())
        assert got == set(np.argsort(-difference)[:4].tolist())


def test_held_out_rows_have_no_say(planted):
    values, labels, _ = planted
    table = probe(values, labels)
    changed = values.copy()
    changed[table.test_rows] = np.random.default_rng(9).normal(size=changed[table.test_rows].shape)
    again = probe(changed, labels)
    for name in ("feature", "layer", "neuron", "f1_train", "sign"):
        assert np.array_equal(getattr(table, name), getattr(again, name)), name
    assert not np.array_equal(table.f1, again.f1)


def test_a_scale_of_a_layer_changes_nothing(planted):
    values, labels, _ = planted
    other = values * np.array([1e6, 1.0, 1e-6])[:, None]
    first, second = probe(values, labels), probe(other, labels)
    assert np.array_equal(first.neuron, second.neuron) and np.allclose(first.f1, second.f1)


def test_permuted_labels_find_chance(planted):
    values, labels, _ = planted
    null = null_neurons(values, labels)
    chance = 2 * 0.2 * 0.5 / 0.7  # F1 of a coin where one row in five is of the feature
    assert abs(null.f1.mean() - chance) < 0.1
    assert top_neurons(values, labels, 5).f1.min() > null.f1.max() + 0.3


def test_a_neuron_stands_in_the_top_once():
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 50)
    values = draw.normal(size=(200, 6))
    values[:, 2] += 3.0 * labels  # tells the first and the last feature, in both directions
    table = top_neurons(values, labels, n_best=6)
    assert len(set(table.neuron.tolist())) == len(table) and (table.layer == 0).all()
    assert table.neuron[0] == 2
    assert (np.diff(table.f1_train) <= 0).all()


def test_one_easy_feature_can_be_kept_from_filling_the_list(planted):
    values, labels, where = planted
    values = values.copy()
    values[labels == 0, 0, 1:6] += 9  # five more neurons of feature 0, all better than the others
    assert (top_neurons(values, labels, 5).feature == 0).sum() == 5
    table = top_neurons(values, labels, 6, most_per_feature=2)
    assert np.bincount(table.feature).max() == 2 and set(table.feature.tolist()) == set(where)


@pytest.mark.slow
def test_tensors_and_seeds(planted):
    values, labels, _ = planted
    table = top_neurons(torch.tensor(values), torch.tensor(labels), seed=1)
    same, other = top_neurons(values, labels, seed=1), top_neurons(values, labels, seed=2)
    assert np.array_equal(table.f1, same.f1) and not np.array_equal(same.test_rows, other.test_rows)
    row = table.rows(["a", "b", "c", "d", "e"])[0]
    assert row["feature"] in "abcde" and row["train_rows"] == row["test_rows"] == 200


def test_rows_of_one_file_stay_on_one_side():
    draw = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), 100)
    groups = [f"{label}/{number}" for label, number in zip(labels, draw.geometric(0.15, len(labels)), strict=True)]
    groups[:30] = ["common"] * 30  # and a file may hold rows of several labels
    groups[590:] = ["common"] * 10
    train, test = split_rows(labels, 0.5, 0, groups)
    assert not set(np.array(groups)[train]) & set(np.array(groups)[test]) and (train ^ test).all()
    assert (np.abs(np.bincount(labels[test]) - 50) <= 5).all()


@pytest.mark.slow
def test_a_file_that_gives_itself_away_does_not_flatter():
    """Each file has a value of its own, at random: split by rows it can be learnt, split by file it cannot."""
    draw = np.random.default_rng(4)
    labels, files = np.repeat([0, 1], 100), np.repeat(np.arange(8), 25)
    values = draw.normal(size=(8, 400))[files] + 0.1 * draw.normal(size=(200, 400))
    by_row, by_file = probe(values, labels, candidates=20), probe(values, labels, groups=files, candidates=20)
    assert by_row.f1.mean() > by_file.f1.mean() + 0.2


def test_what_cannot_be_split_by_file_is_named():
    labels = np.repeat([0, 1], 10)
    with pytest.raises(UserError, match=r"label 1 cannot be split"):
        split_rows(labels, 0.5, 0, [*range(10), *["one file"] * 10])
    with pytest.raises(UserError, match="one group a row"):
        split_rows(labels, 0.5, 0, [1, 2])


def test_every_label_is_in_both_halves():
    labels = np.array([0] * 4 + [1] * 101)
    train, test = split_rows(labels, 0.5, 0)
    assert (train ^ test).all() and train[:4].sum() == test[:4].sum() == 2 and test.sum() == 2 + 50


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (np.zeros((8, 3)), np.zeros(8), "at least 2 labels, got 1"),
        (np.zeros((8, 3)), np.array([0, 0, 0, 1, 1, 1, 1, 1]), "label 0 has 3 rows"),
        (np.zeros((8, 3)), np.zeros(7), r"expected values \(n, N\)"),
        (np.full((8, 3), np.nan), np.repeat([0, 1], 4), "NaN or infinity"),
    ],
)
def test_bad_input_is_named(values, labels, message):
    with pytest.raises(UserError, match=message):
        probe(values, labels)


def test_dead_neurons_are_passed_over():
    labels = np.repeat([0, 1], 20)
    assert len(probe(np.ones((40, 5)), labels)) == 0 == len(top_neurons(np.ones((40, 5)), labels))


@pytest.mark.slow
def test_it_is_quick():
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 200)
    values = draw.normal(size=(2000, 4, 512)).astype(np.float32)
    start = time.process_time()
    top_neurons(values, labels)
    assert time.process_time() - start < 10
