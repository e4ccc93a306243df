"""halves, match and paraphrase (RTE's, QNLI's and MRPC's kind): do two texts belong together?

Every first text stands once with its own partner and once with another's, and every second text too: whoever reads one
side alone is at chance by construction. Wrong partners come from the same package and another file.
"""

import re
from collections import defaultdict

import numpy as np

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, codes, right_and_wrong, rng_of, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Piece, Pieces, shuffled
from l2e_min.lab.finetuning.task import Task


def halves(pieces: Pieces) -> Task:
    """Does B end the sentence that A begins? Cut between the words at 40 to 60 % of the sentence.

    Wrong partners are as long as the right ones, to a word: else halves of equal length would give the answer away.
    """
    split = {}
    for part, found in by_part(pieces.sentences).items():
        rng, pairs = rng_of("halves", part), []
        for piece in shuffled([p for p in found if p.text.count(" ") >= 11], "halves")[: SIZES[part] // 2]:
            tokens = piece.text.split(" ")
            at = round(len(tokens) * rng.uniform(0.4, 0.6))
            pairs.append((piece, " ".join(tokens[:at]), " ".join(tokens[at:])))
        split[part] = _split(pairs, f"halves/{part}", longer=1)
    return Task(
        "halves", "second half", "classification", "accuracy", ("another's", "its own"), **split, like="RTE",
        about="The first half of a sentence, and the second half of the same or of another sentence of its package. "
        "Every half stands once with its own and once with another's.",
    )  # fmt: skip


def match(pieces: Pieces) -> Task:
    """Does a summary describe the function with this signature?"""
    split = {}
    for part, found in by_part(pieces.summaries).items():
        pairs = []
        for piece in shuffled([p for p in found if _telling(p.key)], "match")[: SIZES[part] // 2]:
            pairs.append((piece, "def " + piece.key, piece.text))
        split[part] = _split(pairs, f"match/{part}")
    return Task(
        "match", "signature and summary", "classification", "accuracy", ("another's", "its own"), **split, like="QNLI",
        about="A Python function's name and signature, and the first sentence of its docstring or of that of "
        "another function of its package. Every text stands once with its own and once with another's.",
    )  # fmt: skip


def paraphrase(pieces: Pieces) -> Task:
    """Do two descriptions, written in two files, describe a parameter of one name? The name itself is masked."""
    split = {}
    for part, found in by_part(pieces.parameters).items():
        by_name = defaultdict(list)
        for piece in shuffled(found, "paraphrase"):
            if len(piece.key) > 2:
                by_name[piece.key].append(piece)
        pairs, names = [], []
        for name, group in by_name.items():
            for step in (1, 2) if len(group) > 4 else (1,):  # round the circle: each is as often A as B
                for first, second in zip(group, group[step:] + group[:step], strict=True):
                    if first.source != second.source:
                        pairs.append((first, first.text, second.text))
                        names.append((name, second.package))
        keep = rng_of("paraphrase", part).permutation(len(pairs))[: SIZES[part] // 2]
        split[part] = _split([pairs[i] for i in keep], f"paraphrase/{part}", [names[i] for i in keep])
    return Task(
        "paraphrase", "two descriptions", "classification", "accuracy", ("two things", "one thing"), **split,
        like="MRPC",
        about="Two descriptions of a parameter, from two files: of parameters of the same name (masked in the text), "
        "or of different names. Every description stands as often with its like as with another.",
    )  # fmt: skip


def _split(pairs: list[tuple[Piece, str, str]], salt: str, names: list[tuple[str, str]] | None = None, longer=99):
    """Rows with wrong partners: same package, other file (or, where given, other name), `longer` by so many words."""
    size = np.array([b.count(" ") for _, _, b in pairs])  # (n,)
    if names is None:
        group, apart = [piece.package for piece, _, _ in pairs], codes([piece.source for piece, _, _ in pairs])
    else:
        group, apart = [package for _, package in names], codes([name for name, _ in names])
    fits = lambda i, j: (apart[i] != apart[j]) & (np.abs(size[i] - size[j]) <= longer)  # noqa: E731
    return rows(right_and_wrong(pairs, group, fits, salt), salt)


def _telling(signature: str) -> bool:
    """Whether a signature names an argument besides self, and is short enough to leave room for B."""
    named = re.findall(r"[(,] ?\**(\w+)", signature)
    return len(set(named) - {"self", "cls", "args", "kwargs", "kw", "kwds"}) >= 1 and len(signature) <= 120
