"""Right language: which phrases go on after phrases of one language?"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from l2e_min.lab.choice.item import CHOICES, Draft
from l2e_min.lab.text.document import Document
from l2e_min.lab.text.languages import LANGUAGES

CONTEXT, CHOICE = 72, 28
"""Least characters: whole phrases are taken until there are so many. Some languages need a token for 1.5 of them."""

SHORT = 12
"""The same for the context and the answer of an example."""

MOST = 2
"""A stretch longer than so many times what is asked for holds a sentence out of the ordinary, and is left out."""


def right_language(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """The wrong choices are phrases of three other languages."""
    least, choice = (SHORT, SHORT) if short else (CONTEXT, CHOICE)
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)  # language: (context, choice, source)
    for document in pool:
        if document.family in LANGUAGES:
            lines, at = document.text.split("\n")[:-1], 0  # the last one may be cut
            while True:
                before, at = _take(lines, at, least)
                after, at = _take(lines, at, choice)
                if not after:
                    break
                if len(before) <= MOST * least and len(after) <= MOST * choice:
                    found[document.family].append((before, "\n" + after, document.source))
    names = [language for language in LANGUAGES if found[language]]
    if len(names) < CHOICES:
        return []
    drafts = []
    for name in names:
        others = [other for other in names if other != name]
        for before, after, source in found[name]:
            drawn = [others[i] for i in rng.choice(len(others), CHOICES - 1, replace=False)]
            wrong = tuple(found[other][rng.integers(len(found[other]))][1] for other in drawn)
            drafts.append(Draft(before, after, wrong, source, name))
    return drafts


def _take(lines: Sequence[str], at: int, least: int) -> tuple[str, int]:
    """Lines from `at` on until `least` characters are there, and where to go on; "" where there are too few."""
    end, size = at, -1
    while end < len(lines) and lines[end].strip() and size < least:
        size += len(lines[end]) + 1
        end += 1
    return ("\n".join(lines[at:end]), end) if size >= least else ("", end)
