"""Models without pretraining: bags of words, and hand-made features of pairs. Fitted on train, chosen on dev."""

import functools

import numpy as np

from l2e_min.lab.finetuning.pair_features import PairFeatures
from l2e_min.lab.finetuning.task import Rows, Task

GRAMS = {"words": ("word", (1, 1)), "word pairs": ("word", (1, 2)), "letters": ("char_wb", (2, 4))}
"""What is counted: words, words and pairs of neighbours, or 2 to 4 letters in a row."""

STRENGTHS = (0.1, 1.0, 10.0)
"""Inverse strengths of the ridge, from strong to weak; which one is best depends on task and grams."""


def bag_of_words(task: Task, sides: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """Test predictions from TF-IDF of the texts on these sides ("first", "second"), and the setting that dev chose."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    candidates = {}
    for name, (analyzer, grams) in GRAMS.items():
        token = r"\w+|[^\w\s]" if analyzer == "word" else None
        counter = TfidfVectorizer(analyzer=analyzer, ngram_range=grams, min_df=2, max_features=20000, sublinear_tf=True,
                                  token_pattern=token)  # fmt: skip
        try:
            counter.fit([text for side in sides for text in getattr(task.train, side)])
        except ValueError:  # no word stands in two texts
            continue
        for kind in ("", ", shared alone") if len(sides) == 2 else ("",):
            features = [_counted(counter, rows, sides, bool(kind)) for rows in (task.train, task.dev, task.test)]
            for strength in STRENGTHS:
                make = functools.partial(_linear, task.kind, strength)
                candidates[f"{name}{kind}, C {strength:g}"] = (make, features)
    return _best(task, candidates)


def _counted(counter, rows: Rows, sides: tuple[str, ...], shared_alone: bool):
    """TF-IDF (n, words) of each side and, for pairs, of what the two share: word by word their product.

    The product alone is offered too: where training holds a text on one label only (a part of a balanced task's rows),
    the words of the sides are learned by heart and drown it.
    """
    from scipy.sparse import hstack

    counted = [counter.transform(getattr(rows, side)) for side in sides]
    if len(sides) == 1:
        return counted[0]
    shared = counted[0].multiply(counted[1]).tocsr()
    return shared if shared_alone else hstack([*counted, shared]).tocsr()


def overlap(task: Task, seed: int) -> tuple[np.ndarray, str]:
    """Test predictions from what a pair shares (`PairFeatures`), and the setting that dev chose."""
    measure = PairFeatures(task.train.first, task.train.second)
    features = [measure(rows.first, rows.second) for rows in (task.train, task.dev, task.test)]
    makers = {f"linear, C {c:g}": functools.partial(_linear, task.kind, c, scale=True) for c in STRENGTHS}
    makers |= {f"trees, {n} leaves": functools.partial(_trees, task.kind, n, seed) for n in (4, 16)}
    return _best(task, {name: (make, features) for name, make in makers.items()})


def _best(task: Task, candidates: dict) -> tuple[np.ndarray, str]:
    """Test predictions of the candidate that scores best on dev, and its name. candidates: (model maker, features)."""
    best, choice, predicted = -np.inf, "none", np.full(len(task.test), task.train.labels[0])
    for name, (make, (train, dev, test)) in candidates.items():
        model = make().fit(train, task.train.labels)
        on_dev = task.score(model.predict(dev), task.dev.labels)
        if on_dev > best:
            best, choice, predicted = on_dev, name, model.predict(test)
    return predicted, choice


def _linear(kind: str, strength: float, scale: bool = False):
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(C=strength, max_iter=2000) if kind == "classification" else Ridge(alpha=1 / strength)
    return make_pipeline(StandardScaler(), model) if scale else model


def _trees(kind: str, leaves: int, seed: int):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kinds = {"classification": HistGradientBoostingClassifier, "regression": HistGradientBoostingRegressor}
    return kinds[kind](max_leaf_nodes=leaves, learning_rate=0.05, early_stopping=False, random_state=seed)
