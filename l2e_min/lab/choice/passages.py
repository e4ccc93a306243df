"""Other file, same file: which lines go on after a passage? The wrong ones stand elsewhere."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l2e_min.lab.choice.item import CHOICES, Draft
from l2e_min.lab.choice.pool import PHRASES, choice_after, context_before, file_of
from l2e_min.lab.text.document import Document

CONTEXT, CHOICE = 128, 48
"""Characters. Together some 80 tokens: a mini model's 128 have room for a solved example or two."""

SHORT = 24
"""Characters of an example's context and of its answer."""

INK = 0.5
"""Least share of a choice that is not white space."""


@dataclass(frozen=True)
class Passage:
    """Two neighbouring stretches of a file, and where they stand."""

    context: str
    choice: str
    source: str
    family: str
    piece: int
    number: int
    """Of the passages of its piece, which one."""


def passages(pool: Sequence[Document], short: bool) -> list[Passage]:
    """All passages, one behind the other. The cut is at a line's end, and the choice begins with the line break."""
    context, choice = (SHORT, SHORT) if short else (CONTEXT, CHOICE)
    found = []
    for piece, document in enumerate(pool):
        text, at, number = document.text, context, 0
        while document.family not in PHRASES and (cut := text.find("\n", at)) >= 0:
            before, after = context_before(text, cut, context), choice_after(text, cut, choice)
            ink = sum(not c.isspace() for c in after)
            good = not text[cut - 1].isspace() and len(before) > context / 2 and len(after) > choice / 2
            if good and ink > INK * len(after):
                source = file_of(document.source)
                found.append(Passage(before, after, source, document.family, piece, number))
                number += 1
                at = cut + len(after) + context
            else:
                at = cut + 1
    return found


def other_file(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """The wrong choices come from three other files of the same family."""
    by_family = defaultdict(lambda: defaultdict(list))
    for passage in passages(pool, short):
        by_family[passage.family][passage.source].append(passage)
    drafts = []
    for family in sorted(by_family):
        files = by_family[family]
        names = sorted(files)
        if len(names) < CHOICES:
            continue
        for name in names:
            others = [other for other in names if other != name]
            for passage in files[name]:
                drawn = rng.choice(len(others), CHOICES - 1, replace=False)
                wrong = tuple(files[others[i]][rng.integers(len(files[others[i]]))].choice for i in drawn)
                drafts.append(Draft(passage.context, passage.choice, wrong, name, family))
    return drafts


def same_file(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """The wrong choices come from the same file, none from the passage before or behind."""
    by_file = defaultdict(list)
    for passage in passages(pool, short):
        by_file[passage.family, passage.source].append(passage)
    drafts = []
    for (family, source), there in sorted(by_file.items()):
        for passage in there:
            far = [p for p in there if p.piece != passage.piece or abs(p.number - passage.number) > 1]
            if len(far) >= CHOICES - 1:
                wrong = tuple(far[i].choice for i in rng.choice(len(far), CHOICES - 1, replace=False))
                drafts.append(Draft(passage.context, passage.choice, wrong, source, family))
    return drafts
