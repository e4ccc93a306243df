"""topic (one sentence, as SST-2): which package is a sentence from?"""

import re

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Pieces, shuffled
from l2e_min.lab.finetuning.task import Task

CLASSES = {"stdlib": "stdlib", "scipy": "scipy", "sklearn": "sklearn", "networkx": "networkx", "torch": "torch",
           **dict.fromkeys(("transformers", "datasets", "accelerate", "huggingface_hub"), "huggingface")}  # fmt: skip
"""Package: class. The packages with the most sentences in every part of the split."""

_NAMES = re.compile(
    r"\b(numpy|np|scipy|sklearn|scikits?(-learn)?|networkx|nx|torch\w*|pytorch|aten|caffe2?|transformers|"
    r"hugging ?face|(py)?arrow|apache|parquet|bert|gpt\w*|cuda|stdlib|cpython)\b",
    re.IGNORECASE,
)


def topic(pieces: Pieces) -> Task:
    """The same number of sentences of every package, names of packages replaced by "name"."""
    split, names = {}, tuple(dict.fromkeys(CLASSES.values()))
    for part, found in by_part(pieces.sentences).items():
        groups = {name: [] for name in names}
        for piece in shuffled(found, "topic"):
            if piece.package in CLASSES:
                groups[CLASSES[piece.package]].append((_NAMES.sub("name", piece.text), piece.source))
        n = min(SIZES[part] // len(names), *map(len, groups.values()))
        labelled = [(text, None, k, source) for k, group in enumerate(groups.values()) for text, source in group[:n]]
        split[part] = rows(labelled, f"topic/{part}")
    return Task(
        "topic", "package", "classification", "accuracy", names, **split, like="SST-2",
        about="A sentence of a docstring, comment or manual, and which of six packages it is from. "
        "Names of packages are masked.",
    )  # fmt: skip
