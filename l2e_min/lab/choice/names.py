"""Far copied name: which name, met far back, comes again?"""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from l2e_min.lab.choice.item import CHOICES, Draft
from l2e_min.lab.choice.pool import CODE, PROSE, context_before, file_of
from l2e_min.lab.text.document import Document

CONTEXT, SHORT = 160, 64
"""Characters before the name, in an item and in an example."""

FAR, FAR_SHORT = 64, 20
"""Characters between the name's last appearance and the cut, at least."""

FILES = 3
"""A name that more files of the pool use is a common word, and needs no copying."""

LETTERS = 4
"""Least length of a name; a wrong name is as long to within as many characters."""

_NAME = re.compile(r"[A-Za-z_]\w*[A-Za-z0-9](?=\W)", re.ASCII)  # at the end of a piece a name may be cut


def far_copied_name(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """The wrong names come from other files of the same family, and do not stand in the context."""
    most, far = (SHORT, FAR_SHORT) if short else (CONTEXT, FAR)
    users: dict[str, set[str]] = defaultdict(set)
    by_family: dict[str, set[str]] = defaultdict(set)
    documents = [d for d in pool if d.family in CODE | PROSE]
    for document in documents:
        for match in _NAME.finditer(document.text):
            users[match[0]].add(file_of(document.source))
            if len(match[0]) >= LETTERS:
                by_family[document.family].add(match[0])
    rare = {family: sorted(n for n in names if len(users[n]) <= FILES) for family, names in by_family.items()}
    drafts = []
    for document in documents:
        source, text, behind = file_of(document.source), document.text, most / 2
        for match in _NAME.finditer(text):
            name, cut = match[0], match.start() - 1
            if cut < behind or len(name) < LETTERS or len(users[name]) > FILES:
                continue
            if text[cut] != " " or text[cut - 1].isspace():
                continue
            context = context_before(text, cut, most)
            there = [m.end() for m in _NAME.finditer(context) if m[0] == name]
            if not there or len(context) - there[-1] < far:
                continue
            wrong = _others(rare[document.family], name, context, users, source, rng)
            if wrong:
                drafts.append(Draft(context, f" {name}", wrong, source, document.family))
                behind = cut + most // 2
    return drafts


def _others(names, name, context, users, source, rng) -> tuple[str, ...]:
    """Three rare names of other files, about as long, as choices; () where there are too few."""
    fitting = [n for n in names if abs(len(n) - len(name)) < LETTERS and source not in users[n] and n not in context]
    if len(fitting) < CHOICES - 1:
        return ()
    return tuple(f" {fitting[i]}" for i in rng.choice(len(fitting), CHOICES - 1, replace=False))
