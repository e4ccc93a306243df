"""Closing bracket: which of four closes what is open?"""

import re
from collections.abc import Sequence

import numpy as np

from l2e_min.lab.choice.item import Draft
from l2e_min.lab.choice.pool import CODE, PROSE, context_before, file_of
from l2e_min.lab.text.document import Document

PAIRS = {")": "(", "]": "[", "}": "{", ">": "<"}
"""The four choices. Each is right equally often: left to themselves, nine in ten would be round."""

CONTEXT, SHORT = 96, 32
"""Characters before the bracket, in an item and in an example."""

LEAST = 4
"""Characters between the two brackets at least."""

# Letter or digit, bracket, white space: then the bracket is a token of its own, whatever the tokenizer has merged.
_CLOSING = re.compile(r"(?<=[A-Za-z0-9])[)\]}>](?=\s)")
_ANGLE = re.compile(r"<[A-Za-z][^<>(){}\[\];=&|]*$")  # template<class T, std::vector<int, <div class


def closing_bracket(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """The choices are ) ] } >; the opening bracket stands in the context. Here the cut is before a bracket."""
    most = SHORT if short else CONTEXT
    drafts = []
    for document in pool:
        if document.family not in CODE | PROSE:
            continue
        behind, text = 0, document.text
        for match in _CLOSING.finditer(text):
            cut, right = match.start(), match[0]
            context = context_before(text, cut, most)
            opened = _opened(context)
            if cut < behind or opened < 0 or context[opened] != PAIRS[right] or len(context) - opened - 1 < LEAST:
                continue
            wrong = tuple(bracket for bracket in PAIRS if bracket != right)
            drafts.append(Draft(context, right, wrong, file_of(document.source), document.family, right))
            behind = cut + most // 2
    return drafts


def _opened(context: str) -> int:
    """Where the last bracket that is still open stands; -1 if there is none, or brackets that do not match."""
    if angle := _ANGLE.search(context):
        return angle.start()
    closed = []
    for i in range(len(context) - 1, -1, -1):
        if context[i] in ")]}":
            closed.append(PAIRS[context[i]])
        elif context[i] in "([{":
            if not closed:
                return i
            if closed.pop() != context[i]:
                return -1
    return -1
