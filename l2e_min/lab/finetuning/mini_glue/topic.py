"""topic (one sentence, as SST-2): which package is a sentence from?"""

import re

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Pieces, shuffled
from l2e_min.lab.finetuning.task import Task

PACKAGES = ("stdlib", "numpy", "scipy", "sklearn", "networkx", "torch", "transformers", "pyarrow")
"""The packages with the most sentences; they are the classes."""

_NAMES = re.compile(
    r"\b(c?python|numpy|np|scipy|sklearn|scikits?(-learn)?|networkx|nx|torch\w*|pytorch|aten|caffe2?|transformers|"
    r"hugging ?face|(py)?arrow|apache|parquet|bert|gpt\w*|cuda|stdlib|cpython)\b",
    re.IGNORECASE,
)


def topic(pieces: Pieces) -> Task:
    """The same number of sentences of every package, names of packages replaced by "name"."""
    split = {}
    for part, found in by_part(pieces.sentences).items():
        groups = {package: [] for package in PACKAGES}
        for piece in shuffled(found, "topic"):
            if piece.package in groups:
                groups[piece.package].append((_NAMES.sub("name", piece.text), piece.source))
        n = min(SIZES[part] // len(PACKAGES), *map(len, groups.values()))
        found = [(text, None, k, source) for k, group in enumerate(groups.values()) for text, source in group[:n]]
        split[part] = rows(found, f"topic/{part}")
    return Task(
        "topic", "package", "classification", "accuracy", PACKAGES, **split, like="SST-2",
        about="A sentence of a docstring, comment or manual; which of eight packages is it from? "
        "Names of packages are masked.",
    )  # fmt: skip
