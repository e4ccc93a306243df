"""The text that questions are cut from: held out, and free of anything that stands in the training text."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from l2e_min.lab.choice.item import Draft
from l2e_min.lab.text.document import Corpus, Document
from l2e_min.lab.text.installed import clean_reserve
from l2e_min.lab.text.languages import LANGUAGES

PYTHON = frozenset(("python", "cython", "py", "pyx"))
CODE = PYTHON | frozenset(("c", "cpp", "h", "hpp", "javascript", "js", "css", "html", "cmake", "latex", "tex", "json"))
PROSE = frozenset(("docstrings", "manual", "readmes", "licences", "rst", "md", "txt"))
"""Families of the installed text, and the endings that name families in a folder of one's own."""

PHRASES = frozenset((*LANGUAGES, "other_languages"))
"""Lists of short phrases in no order: only the language task can ask about them."""

T = TypeVar("T")


def pool(corpus: Corpus) -> list[Document]:
    """Pieces of the corpus's validation and reserved files that share no 40 bytes with its training text.

    Nor with each other: of a stretch that repeats, the first stays, and none where two families share it.
    """
    return clean_reserve([*corpus.validation, *corpus.reserved], corpus.train)


def file_of(source: str) -> str:
    """The file of a document: sections of one file ("page.html#3") count as one."""
    return source.split("#", 1)[0]


def edges(text: str, start: int = 0, end: int | None = None) -> list[int]:
    """Places before white space, where a text can be cut and the tokens on both sides stay what they are."""
    end = len(text) if end is None else min(end, len(text))
    return [i for i in range(max(start, 1), end) if text[i].isspace() and not text[i - 1].isspace()]


def context_before(text: str, cut: int, most: int) -> str:
    """At most `most` characters of `text` before `cut`, beginning where the text begins or before white space."""
    if cut <= most:
        return text[:cut]
    starts = edges(text, cut - most, cut)
    return text[starts[0] : cut] if starts else ""


def choice_after(text: str, cut: int, most: int) -> str:
    """At most `most` characters of `text` from `cut` on, ending before white space; "" where none comes.

    The end of the text is no end: a piece may stop inside a word.
    """
    ends = edges(text, cut + 1, cut + most + 1)
    return text[cut : ends[-1]] if ends else ""


def dealt(drafts: Sequence[Draft], rng: np.random.Generator) -> list[Draft]:
    """All drafts in an order of which every beginning spreads over kinds, families and files as evenly as can be."""
    order = [drafts[i] for i in rng.permutation(len(drafts))]
    for key in (lambda d: d.source, lambda d: d.family, lambda d: d.kind):
        order = _in_turns(order, key)
    return order


def _in_turns(items: Iterable[T], key: Callable[[T], object]) -> list[T]:
    """The first item of each key, then the second of each, and so on; otherwise in their old order."""
    seen, turns = Counter(), defaultdict(list)
    for item in items:
        turns[seen[key(item)]].append(item)
        seen[key(item)] += 1
    return [item for turn in sorted(turns) for item in turns[turn]]
