"""The split by file that the mini BERT and the mini GLUE share: no file is in two parts.

The model is pretrained on the "train" part alone, and the training rows of every task are cut from it: dev and test
rows come from files that neither pretraining nor fine-tuning has seen.
"""

from l2e_min.lab.text.document import Corpus, Document
from l2e_min.lab.text.sources import unit

PARTS = ("train", "dev", "test")
DEV, TEST = 0.08, 0.16
"""Shares of the files, by a hash of their names: dev chooses a setting, test must tell scores 2 points apart."""


def part_of(source: str) -> str:
    """ "train", "dev" or "test", from the file's name alone: all chunks of a file ("page.html#3") are in one part."""
    position = unit(source.split("#", 1)[0], "glue")
    return "dev" if position < DEV else "test" if position < DEV + TEST else "train"


def parts(corpus: Corpus) -> dict[str, list[Document]]:
    """The training and validation documents of a corpus, in order, as {"train": [...], "dev": [...], "test": [...]}."""
    split: dict[str, list[Document]] = {part: [] for part in PARTS}
    for document in (*corpus.train, *corpus.validation):
        split[part_of(document.source)].append(document)
    return split


def without_task_files(corpus: Corpus) -> Corpus:
    """What a mini BERT is pretrained on: the files of the "train" part, held to account on those of the "dev" part."""
    split = parts(corpus)
    return Corpus(f"{corpus.name}, without the mini tasks' files", split["train"], split["dev"])
