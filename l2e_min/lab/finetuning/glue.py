"""GLUE's eight tasks of W24 Table 1, from the Hugging Face hub or its cache on this machine.

GLUE's test labels are hidden. What is reported here is its official dev set, as W24's public code does (W24 Table 1 has
scores of GLUE's test server); the rows that choose are carved out of the training rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2e_min.lab import hub
from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.carve import carve
from l2e_min.lab.finetuning.task import Rows, Task

REPOSITORY = "nyu-mll/glue"
MAX_TOKENS = 128
"""The usual cut of fine-tuning on GLUE; nearly all its rows are shorter."""


@dataclass(frozen=True)
class GlueTask:
    """How a task of GLUE stands on the hub, and how it is scored. The key in ``GLUE`` is its configuration there."""

    title: str
    columns: tuple[str, ...]
    """The columns of sentence A and, of pair tasks, of sentence B."""

    classes: tuple[str, ...]
    """In the order of the hub's numbers; () for regression."""

    metric: str
    about: str
    dev: str = "validation"
    more: tuple[tuple[str, str], ...] = ()
    """(name, split) of further rows to report."""


_ENTAILMENT = ("entailment", "not_entailment")
_TWO = ("sentence1", "sentence2")

GLUE = {
    "mnli": GlueTask(
        "MNLI", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), "accuracy",
        "Does the premise entail the hypothesis, contradict it, or neither? Mismatched: genres that train lacks.",
        "validation_matched", (("mismatched", "validation_mismatched"),),
    ),
    "qqp": GlueTask("QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), "f1",
                    "Do two questions ask the same? From the question site Quora."),
    "qnli": GlueTask("QNLI", ("question", "sentence"), _ENTAILMENT, "accuracy",
                     "Does the sentence answer the question? Sentences of Wikipedia paragraphs, from SQuAD."),
    "sst2": GlueTask("SST-2", ("sentence",), ("negative", "positive"), "accuracy",
                     "Is a phrase of a film review positive? From the Stanford Sentiment Treebank."),
    "cola": GlueTask("CoLA", ("sentence",), ("unacceptable", "acceptable"), "matthews",
                     "Is the sentence acceptable English? Examples of books and papers on linguistics."),
    "stsb": GlueTask("STS-B", _TWO, (), "spearman",
                     "How alike in meaning are two sentences, from 0 to 5? Captions, headlines and forums."),
    "mrpc": GlueTask("MRPC", _TWO, ("not_equivalent", "equivalent"), "f1",
                     "Do two sentences say the same? Pairs from news."),
    "rte": GlueTask("RTE", _TWO, _ENTAILMENT, "accuracy",
                    "Does the first sentence entail the second? News and Wikipedia, from four yearly challenges."),
}  # fmt: skip
"""The tasks in the order of W24 Table 1; WNLI is left out there."""


def glue_task(name: str, dev_rows: int | None = None, seed: int = 0) -> Task:
    """A task of GLUE by its name ("rte", "SST-2"): train and dev from its train split, test from its official dev set.

    ``dev_rows``: how many training rows choose the setting (default: a tenth, at most 2,000); ``seed`` draws them.
    MNLI's ``test`` is matched, and its ``more`` holds "mismatched". Loads from the hub, or from the cache where the
    hub is out of reach. Raises UserError, one line, for an unknown name and where neither has the task.
    """
    config = name.lower().replace("-", "").replace("_", "")
    if config not in GLUE:
        raise UserError(f"no task {name!r} in GLUE here; expected one of {', '.join(GLUE)}")
    known = GLUE[config]
    train, test, *more = (rows_of(known, split) for split in _load(config, known))
    train, dev = carve(train, dev_rows, seed)
    return Task(
        name=config,
        title=known.title,
        kind="classification" if known.classes else "regression",
        metric=known.metric,
        classes=known.classes,
        train=train,
        dev=dev,
        test=test,
        like=known.title,
        about=known.about,
        max_tokens=MAX_TOKENS,
        more=tuple((called, rows) for (called, _), rows in zip(known.more, more, strict=True)),
    )


def _load(config: str, known: GlueTask) -> Sequence:
    """The splits train, dev and further ones as ``datasets.Dataset``; asks nobody where the hub does not answer."""
    try:
        import datasets
    except ImportError:
        raise UserError('GLUE needs the package "datasets"; run: pip install "l2e-min[lab]"') from None
    here, offline = hub.reachable(), datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # nobody but the hub is told that a dataset is read
    datasets.config.HF_HUB_OFFLINE = offline or not here  # else an absent hub is retried for minutes
    splits = ["train", known.dev, *(split for _, split in known.more)]
    try:
        return datasets.load_dataset(REPOSITORY, config, split=splits)
    except Exception as error:  # the library raises many kinds: no network, not cached, a broken file
        said = hub.trouble(f"load GLUE's {known.title} ({REPOSITORY})", error, here=here)
        raise UserError(f"{said}, and so does a folder of GLUE's published train.tsv and dev.tsv") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def rows_of(known: GlueTask, split) -> Rows:
    """A ``datasets.Dataset`` as ``Rows``; UserError for other columns or classes than GLUE's, and for hidden labels."""
    wanted = [*known.columns, "label"]
    if set(wanted) - set(split.column_names):
        raise UserError(f"{known.title} of {REPOSITORY} has the columns {split.column_names}, not {wanted}")
    classes = tuple(getattr(split.features["label"], "names", ()))
    if classes != known.classes:
        raise UserError(f"{known.title} of {REPOSITORY} has the classes {classes}, not {known.classes}")
    columns = split.select_columns(wanted)[:]
    labels = np.array(columns["label"], dtype=np.int64 if classes else np.float64)
    if not len(labels) or not np.isfinite(labels).all() or labels.min() < 0:
        raise UserError(f"{known.title} of {REPOSITORY}: the split {split.split} has no rows, or rows without a label")
    first, second = tuple(columns[wanted[0]]), tuple(columns[wanted[1]]) if len(known.columns) == 2 else None
    return Rows(first, second, labels, ("",) * len(labels))
