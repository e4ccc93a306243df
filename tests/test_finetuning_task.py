"""A task: its metrics against float64 NumPy, bad predictions by name, rows, and the split by file."""

import warnings

import numpy as np
import pytest
from small_corpus import small_corpus

from l2e_min.lab.finetuning.split import DEV, PARTS, TEST, part_of, parts
from l2e_min.lab.finetuning.task import METRICS, Rows, Task, score
from l2e_min.lab.text.document import Corpus, Document


def slow_score(metric, predictions, labels):
    """The metrics from their definitions, row by row, in float64."""
    p, y = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    if metric == "accuracy":
        return 100 * sum(a == b for a, b in zip(p, y, strict=True)) / len(y)
    if metric == "f1":
        hits = sum(a == 1 and b == 1 for a, b in zip(p, y, strict=True))
        return 100 * 2 * hits / (sum(p == 1) + sum(y == 1)) if hits else 0.0
    if metric == "spearman":  # the mean rank of equal values, then Pearson
        p, y = (np.array([(v < x).sum() + ((v == x).sum() + 1) / 2 for x in v]) for v in (p, y))
        metric = "pearson"
    if metric == "matthews" and set(y) - {0, 1}:  # Gorodkin's: the correlation of the one-hot matrices
        classes = sorted({*p, *y})
        p, y = ((v[:, None] == np.array(classes)).astype(float) for v in (p, y))
    p, y = p - p.mean(0), y - y.mean(0)
    return 100 * (p * y).sum() / np.sqrt((p * p).sum() * (y * y).sum())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_their_definitions(metric, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, 80) / 1.0 if metric == "spearman" else rng.integers(0, 2, 80)
    predictions = labels + rng.normal(size=80) if metric == "spearman" else np.where(rng.random(80) < 0.3, 1, labels)
    assert score(metric, predictions, labels) == pytest.approx(slow_score(metric, predictions, labels), abs=1e-9)


@pytest.mark.parametrize("metric", ["accuracy", "matthews"])
def test_metrics_of_many_classes(metric):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 90)
    predictions = np.where(rng.random(90) < 0.5, rng.integers(0, 4, 90), labels)
    assert score(metric, predictions, labels) == pytest.approx(slow_score(metric, predictions, labels), abs=1e-9)


def test_perfect_and_reversed_predictions():
    labels = np.array([0, 1, 0, 1, 1])
    assert [score(metric, labels, labels) for metric in METRICS] == pytest.approx([100.0] * 4)
    assert [score(metric, 1 - labels, labels) for metric in METRICS] == pytest.approx([0.0, 0.0, -100.0, -100.0])


@pytest.mark.parametrize(("metric", "zeros", "ones"), [("accuracy", 50, 50), ("f1", 0, 200 / 3), ("matthews", 0, 0),
                                                       ("spearman", 0, 0)])  # fmt: skip
def test_constant_predictions_are_no_news_and_no_warning(metric, zeros, ones):
    labels = np.array([0, 1, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(metric, np.zeros(4, int), labels) == pytest.approx(zeros)
        assert score(metric, np.ones(4, int), labels) == pytest.approx(ones)
        assert np.isfinite(score(metric, labels, np.ones(4, int)))  # labels may be constant in a resample


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("metric", METRICS)
def test_predictions_that_are_not_finite_are_refused(metric, bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        score(metric, np.array([0.0, bad, 1.0]), np.array([0, 1, 1]))


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [([0, 1], [0, 1, 1]), ([[0, 1], [1, 0]], [0, 1]), ([[0], [1]], [[0], [1]]), ([], []), ([0, 1], [[0, 1]])],
)
def test_other_shapes_are_refused(predictions, labels):
    with pytest.raises(ValueError, match="expected predictions and labels"):
        score("accuracy", np.array(predictions), np.array(labels))


def test_unknown_metric_and_f1_of_three_classes_are_refused():
    with pytest.raises(ValueError, match="no such metric: 'bleu'"):
        score("bleu", [0, 1], [0, 1])
    with pytest.raises(ValueError, match="class numbers 0 and 1"):
        score("f1", [0, 2], [0, 1])


def rows(second=("x", "y", "z")):
    return Rows(("a", "b", "c"), second, np.array([0, 1, 1]), ("f", "g", "g"))


@pytest.mark.parametrize("index", [[2, 0], np.array([2, 0]), (2, 0)])
def test_take_keeps_columns_together_and_the_order_asked_for(index):
    taken = rows().take(index)
    assert (taken.first, taken.second, taken.labels.tolist(), taken.sources) == (
        ("c", "a"),
        ("z", "x"),
        [1, 0],
        ("g", "f"),
    )


def test_take_by_a_mask_of_single_sentences_and_of_nothing():
    assert rows(None).take(np.array([True, False, True])).first == ("a", "c")
    assert rows(None).take([0]).second is None
    assert len(rows().take([])) == 0


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        rows(("x", "y"))
    with pytest.raises(ValueError, match="labels"):
        Rows(("a",), None, np.array([[0]]), ("f",))


def test_a_task_knows_its_shape_and_scores_by_its_metric():
    pair = Task("t", "title", "classification", "f1", ("no", "yes"), rows(), rows(), rows())
    assert pair.pair and pair.n_classes == 2
    assert pair.score([1, 1, 1], [0, 1, 1]) == pytest.approx(80.0)
    graded = Task("t", "title", "regression", "spearman", (), rows(None), rows(None), rows(None))
    assert not graded.pair and graded.n_classes == 1


def test_chunks_of_a_file_are_in_one_part_and_shares_are_as_stated():
    names = [f"package/module{i}.py" for i in range(4000)]
    assert all(part_of(name) == part_of(f"{name}#7") for name in names[:200])
    found = [part_of(name) for name in names]
    assert found.count("dev") / 4000 == pytest.approx(DEV, abs=0.02)
    assert found.count("test") / 4000 == pytest.approx(TEST, abs=0.02)


def test_parts_hold_every_document_once_and_no_file_twice():
    corpus = small_corpus()
    reserved = (Document("kept for feature rows", "stdlib/kept.py", "python"),)
    split = parts(Corpus("small", corpus.train, corpus.validation, reserved))
    assert tuple(split) == PARTS
    found = [document for part in PARTS for document in split[part]]
    assert sorted(d.source for d in found) == sorted(d.source for d in (*corpus.train, *corpus.validation))
    files = [{document.source for document in split[part]} for part in PARTS]
    assert all(files) and not (files[0] & files[1] or files[0] & files[2] or files[1] & files[2])
