"""What the tests of fine-tuning share: a tiny BERT in a folder, and tasks whose answer is planted in the words."""

from pathlib import Path

import numpy as np

from l2e_min.lab.finetuning.task import Rows, Task
from l2e_min.lab.mini_bert import train_wordpiece, untrained_bert

LETTERS = np.array(list("abcdefghijklmnop"))
WORDS = ["".join(np.random.default_rng(i).choice(LETTERS, 2 + i % 4)) for i in range(300)]
"""The words that all texts here are made of, in no particular order."""

SIGNS = ("zzyes", "zzno", "zzmaybe")
"""Words that stand in a text of their class and in no other."""


def sentence(rng: np.random.Generator, least: int = 4, most: int = 12) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(least, most)))


def texts(n: int = 60, seed: int = 0) -> list[str]:
    """Texts with all words, signs among them."""
    rng = np.random.default_rng(seed)
    return [f"{sentence(rng, 30, 60)} {SIGNS[i % 3]}" for i in range(n)]


def tiny_bert(
    folder: Path, size: str = "bert-32x2", *, seed: int = 99, vocabulary: int = 500, context: int = 64
) -> str:
    """The folder, with an untrained masked language model and its tokenizer in it, as pretraining leaves them."""
    tokenizer = train_wordpiece(texts(), vocabulary, context)
    untrained_bert(size, seed=seed, vocabulary=len(tokenizer), context=context).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def rows(n: int, seed: int, *, classes: int = 2, pair: bool = False, values: bool = False) -> Rows:
    """Rows whose class is told by one of ``SIGNS``; values say how many words of the text are "zzyes"."""
    rng = np.random.default_rng(seed)
    first, second, labels = [], [], []
    for number in range(n):
        label = number % (4 if values else classes)
        words = sentence(rng).split() + ([SIGNS[0]] * label if values else [SIGNS[label]])
        first.append(" ".join(rng.permutation(words)))
        second.append(sentence(rng))
        labels.append(label)
    kind = np.float64 if values else np.int64
    return Rows(tuple(first), tuple(second) if pair else None, np.array(labels, kind), ("",) * n)


def planted_task(name: str = "signs", *, train: int = 192, max_tokens: int = 24, **kind) -> Task:
    """A task that is easily learned; ``kind`` goes to ``rows``."""
    values, classes = kind.get("values", False), kind.get("classes", 2)
    return Task(
        name, name, "regression" if values else "classification", "spearman" if values else "accuracy",
        () if values else SIGNS[:classes], rows(train, 1, **kind), rows(48, 2, **kind), rows(96, 3, **kind),
        max_tokens=max_tokens,
    )  # fmt: skip
