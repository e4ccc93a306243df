"""A task to fine-tune on: rows, labels, and how predictions are scored (the shape of GLUE's tasks, W24 Table 1)."""

from dataclasses import dataclass, replace

import numpy as np

METRICS = ("accuracy", "f1", "matthews", "spearman")
"""W24 Table 1: F1 for QQP and MRPC, Spearman for STS-B, accuracy for the rest; CoLA's own is Matthews correlation."""


@dataclass(frozen=True)
class Rows:
    """One split of a task: n rows of text with their labels."""

    first: tuple[str, ...]
    """Sentence A of each row."""

    second: tuple[str, ...] | None
    """Sentence B of each row of a pair task, else None."""

    labels: np.ndarray
    """(n,): class numbers int64, or values float64 for regression."""

    sources: tuple[str, ...]
    """The file each row was cut from; "" where unknown."""

    def __post_init__(self):
        sizes = {len(self.first), len(self.labels), len(self.sources)}
        sizes |= {len(self.second)} if self.second is not None else set()
        if len(sizes) > 1 or np.ndim(self.labels) != 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}, labels {np.shape(self.labels)}")

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index) -> "Rows":
        """The rows with these numbers, in this order; index: (k,) int, or (n,) bool."""
        index = np.arange(len(self))[np.asarray(index) if len(index) else slice(0)]
        pick = lambda column: tuple(column[i] for i in index)  # noqa: E731
        second = None if self.second is None else pick(self.second)
        return Rows(pick(self.first), second, self.labels[index], pick(self.sources))


@dataclass(frozen=True)
class Task:
    """A task in three splits: `train` teaches, `dev` chooses (learning rate, k, D), `test` is what is reported."""

    name: str
    title: str
    """A line for tables: "acceptability"."""

    kind: str
    """ "classification" or "regression"."""

    metric: str
    """One of `METRICS`."""

    classes: tuple[str, ...]
    """Names in the order of the numbers; () for regression."""

    train: Rows
    dev: Rows
    test: Rows
    like: str = ""
    """The task of GLUE it stands for, such as "CoLA"."""

    about: str = ""
    """Two sentences for the page: what a row is, and where it comes from."""

    max_tokens: int = 64
    """Tokens a row (both sentences of a pair together) is cut to."""

    more: tuple[tuple[str, Rows], ...] = ()
    """Further rows to report, by name, such as MNLI's "mismatched"; they choose nothing."""

    @property
    def pair(self) -> bool:
        """Whether a row is two sentences."""
        return self.train.second is not None

    @property
    def n_classes(self) -> int:
        """Outputs a model needs: the classes, or 1 for regression."""
        return len(self.classes) if self.kind == "classification" else 1

    def with_train_rows(self, n: int) -> "Task":
        """The task with its first ``n`` training rows, or all it has where they are fewer."""
        return replace(self, train=self.train.take(range(min(n, len(self.train)))))

    def score(self, predictions, labels) -> float:
        """`score` with the task's metric: points, 0 to 100. predictions: class numbers (n,), or values (n,)."""
        return score(self.metric, predictions, labels)


def score(metric: str, predictions, labels) -> float:
    """Agreement of predictions (n,) with labels (n,), in points (100 is perfect; W24 Table 1's unit).

    "accuracy": share of equal class numbers. "f1": of class 1 against class 0. "matthews" and "spearman": a
    correlation, 0 where predictions or labels are constant, negative where they disagree.
    Raises ValueError for an unknown metric, different or wrong shapes, no rows, and values that are not finite.
    """
    if metric not in METRICS:
        raise ValueError(f"no such metric: {metric!r}; expected one of {', '.join(METRICS)}")
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(f"expected predictions and labels (n,), got {predictions.shape} and {labels.shape}")
    if not (np.isfinite(predictions.astype(np.float64)).all() and np.isfinite(labels.astype(np.float64)).all()):
        raise ValueError("predictions or labels hold NaN or infinity")
    return 100.0 * _SCORES[metric](predictions, labels)


def _accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(predictions == labels))


def _f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    if not np.isin(np.concatenate([predictions, labels]), (0, 1)).all():
        raise ValueError("f1 is of class 1 against class 0; expected class numbers 0 and 1")
    return float(f1_score(labels, predictions, zero_division=0.0))


def _matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:  # 0 by definition; scikit-learn warns of a single class
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def _spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    from scipy.stats import spearmanr

    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(spearmanr(predictions, labels).statistic)


_SCORES = {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews, "spearman": _spearman}
