"""Sparse probing (G23): which single neurons tell a feature from the others, and how well.

For each feature: rank the neurons by the difference of their means on and off the feature, fit a logistic regression on
each of the best few alone, and score it by F1 on rows that took no part in either.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from l2e_min.lab.errors import UserError

CANDIDATES = 10
"""Neurons a feature that get a probe; the best one by far is nearly always among the first few of the ranking."""

TEST_SHARE = 0.5
"""Share of the rows that are held out: later measures on the neurons found need rows of their own, too."""


@dataclass(frozen=True)
class ProbeTable:
    """One row a (feature, neuron) pair, best first. Columns are arrays of one length."""

    feature: np.ndarray
    """Feature number, as in the labels."""

    layer: np.ndarray
    """Layer of the neuron; 0 where the values had no axis of layers."""

    neuron: np.ndarray
    """Number of the neuron in its layer."""

    f1: np.ndarray
    """F1 on held-out rows: what is reported, and never chosen by."""

    f1_train: np.ndarray
    """F1 on the training rows: what the order of the table goes by."""

    sign: np.ndarray
    """1 where the neuron is higher on the feature, -1 where it is lower."""

    train_rows: np.ndarray
    """Rows that ranked the neurons and fitted the probes."""

    test_rows: np.ndarray
    """Rows that gave ``f1``; no choice has seen them."""

    def __len__(self) -> int:
        return len(self.neuron)

    def take(self, rows) -> "ProbeTable":
        """The table with these rows alone."""
        rows = np.asarray(rows, dtype=np.int64)
        columns = (getattr(self, name)[rows] for name in ("feature", "layer", "neuron", "f1", "f1_train", "sign"))
        return ProbeTable(*columns, self.train_rows, self.test_rows)

    def rows(self, features: list[str] | None = None) -> list[dict[str, object]]:
        """Dictionaries to print: feature (by name where given), layer, neuron, F1, and the rows behind it."""
        return [
            {
                "feature": features[f] if features else int(f),
                "layer": int(layer),
                "neuron": int(neuron),
                "f1": float(f1),
                "train_rows": len(self.train_rows),
                "test_rows": len(self.test_rows),
            }
            for f, layer, neuron, f1 in zip(self.feature, self.layer, self.neuron, self.f1, strict=True)
        ]


def probe(
    values,
    labels,
    *,
    groups=None,
    candidates: int = CANDIDATES,
    test_share: float = TEST_SHARE,
    seed: int = 0,
) -> ProbeTable:
    """Probes the best ``candidates`` neurons of every feature; the table is ordered by the training F1.

    values (n, N) or (n, n_layers, n_neurons), labels (n,): arrays or tensors. ``seed`` draws the split into training
    and held-out rows, half and half of each label. The ranking is by ``|mean on - mean off| / std`` of the training
    rows (the division is our choice: G23 does not divide, and the layers' scales differ). Classes are weighted to
    balance, as one feature is far rarer than the rest.

    Raises ``UserError`` for shapes that do not fit, values that are not finite, or a label with fewer than 4 rows.
    """
    values, shape, labels = checked(values, labels)
    train, test = split_rows(labels, test_share, seed, groups)
    mean, std = values[train].mean(0), values[train].std(0)  # (N,)
    alive = std > 1e-12 * np.abs(mean) + 1e-30  # a constant neuron tells nothing
    z = (values - mean) / np.where(alive, std, 1.0)  # (n, N)
    z[:, ~alive] = 0.0
    found = []
    for feature in np.unique(labels):
        on = labels == feature  # (n,)
        difference = z[train & on].mean(0) - z[train & ~on].mean(0)  # (N,)
        difference[~alive] = 0.0
        for neuron in np.argsort(-np.abs(difference), kind="stable")[: min(candidates, int(alive.sum()))]:
            f1_train, f1 = fit(z[:, neuron], on, train, test)
            found.append((feature, *divmod(neuron, shape[-1]), f1, f1_train, np.sign(difference[neuron])))
    columns = [np.array(column) for column in zip(*found, strict=True)] if found else [np.zeros(0)] * 6
    table = ProbeTable(
        *(c.astype(np.int64) for c in columns[:3]),
        *columns[3:5],
        columns[5].astype(np.int64),
        np.flatnonzero(train),
        np.flatnonzero(test),
    )
    return table.take(np.argsort(-table.f1_train, kind="stable"))


def top_neurons(
    values,
    labels,
    n_best: int = 10,
    seed: int = 0,
    *,
    groups=None,
    candidates: int = CANDIDATES,
    most_per_feature: int | None = None,
) -> ProbeTable:
    """The ``n_best`` most monosemantic neurons (W25 section 3), each with the feature that it tells best.

    Chosen by the F1 on training rows; the table's ``f1`` is from held-out rows and so is no product of the choice. One
    easy feature can fill the whole list: ``most_per_feature`` bounds that. Other arguments as for ``probe``. Compare
    with ``null_neurons``: the best of many neurons is never at chance.
    """
    return best_of(probe(values, labels, groups=groups, candidates=candidates, seed=seed), n_best, most_per_feature)


def best_of(table: ProbeTable, n_best: int, most_per_feature: int | None = None) -> ProbeTable:
    """The first ``n_best`` neurons of a table that ``probe`` gave, each once, as ``top_neurons`` takes them."""
    if n_best < 1:
        raise UserError(f"n_best must be at least 1, got {n_best}")
    _, first = np.unique(np.stack([table.layer, table.neuron]), axis=1, return_index=True)
    chosen, taken = [], Counter()
    for row in np.sort(first):  # best first
        if most_per_feature is None or taken[table.feature[row]] < most_per_feature:
            chosen.append(row)
            taken[table.feature[row]] += 1
    return table.take(chosen[:n_best])


def null_neurons(values, labels, n_best: int = 10, seed: int = 0, *, candidates: int = CANDIDATES) -> ProbeTable:
    """``top_neurons`` with the labels permuted at random: what the same search finds where there is nothing to find."""
    permuted = np.random.default_rng([seed, 1]).permutation(np.asarray(labels))  # not the stream that splits the rows
    return top_neurons(values, permuted, n_best, seed, candidates=candidates)


def fit(z: np.ndarray, on: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """(training F1, held-out F1) of a logistic regression on one neuron's values z (n,) for the labels on (n,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    model = LogisticRegression(class_weight="balanced").fit(z[train, None], on[train])
    return tuple(float(f1_score(on[rows], model.predict(z[rows, None]), zero_division=0.0)) for rows in (train, test))


def split_rows(labels: np.ndarray, test_share: float, seed: int, groups=None) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint boolean masks (n,), training and held-out rows, that hold about the same share of every label.

    Rows of one group (n,) stay on one side. Raises ``UserError`` where that leaves a side with less than 2 rows of a
    label.
    """
    if not 0 < test_share < 1:
        raise UserError(f"test_share must lie between 0 and 1, got {test_share}")
    names, label = np.unique(labels, return_inverse=True)
    group = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if group.shape != label.shape:
        raise UserError(f"expected one group a row ({len(labels)}), got {group.shape}")
    counts = np.zeros((group.max() + 1, len(names)))  # (groups, labels)
    np.add.at(counts, (group, label), 1)
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]  # the largest first: the small ones level out
    in_test, test, seen = np.zeros(len(counts), dtype=bool), np.zeros(len(names)), np.zeros(len(names))
    for g in order:
        seen += counts[g]
        wanted = test_share * seen  # (labels,)
        in_test[g] = np.square(test + counts[g] - wanted).sum() < np.square(test - wanted).sum()
        test += counts[g] * in_test[g]
    rows = in_test[group]
    for number, name in enumerate(names):
        sizes = np.bincount(rows[label == number], minlength=2)
        if sizes.min() < 2:
            raise UserError(f"label {name} cannot be split: {sizes[0]} training and {sizes[1]} held-out rows")
    return ~rows, rows


def checked(values, labels) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    """Values as (n, N) float64, the shape behind the first axis, and labels (n,); raises ``UserError`` on a misfit."""
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if values.ndim not in (2, 3) or labels.shape != values.shape[:1]:
        raise UserError(
            f"expected values (n, N) or (n, layers, neurons) with labels (n,), got {values.shape} and {labels.shape}"
        )
    if not np.isfinite(values).all():
        raise UserError("the values hold NaN or infinity")
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise UserError(f"probing needs at least 2 labels, got {len(names)}")
    if counts.min() < 4:
        raise UserError(f"label {names[counts.argmin()]} has {counts.min()} rows; probing needs at least 4 of each")
    return values.reshape(len(values), -1), values.shape[1:], labels
