"""Indentation: where does the next line of Python begin?

About seven in ten begin where the line above begins: a model that copies is far above chance, and only what it scores
beyond that is grammar.
"""

import re
from collections.abc import Sequence

import numpy as np

from l2e_min.lab.choice.item import Draft
from l2e_min.lab.choice.pool import PYTHON, context_before, file_of
from l2e_min.lab.text.document import Document

WIDTHS = (0, 4, 8, 12)
"""The four choices, in spaces. Each is right equally often, so that no width is a good guess."""

CONTEXT, SHORT = 144, 48
"""Characters before the line, in an item and in an example."""

_NEXT = re.compile(r"\n( *)([A-Za-z]+)(?=[^A-Za-z])")
_INDENT = re.compile(r"^ *(?=\S)", re.MULTILINE)


def indentation(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """All choices are the same first word of the next line behind 0, 4, 8 or 12 spaces."""
    most = SHORT if short else CONTEXT
    drafts = []
    for document in pool:
        if document.family not in PYTHON:
            continue
        behind = 0
        for match in _NEXT.finditer(document.text):
            width, cut = len(match[1]), match.start()
            if width not in WIDTHS or cut < max(most / 2, behind) or document.text[cut - 1].isspace():
                continue
            context = _whole_lines(context_before(document.text, cut, most))
            if len(context) < most / 2 or any(len(indent) % 4 for indent in _INDENT.findall(context)):
                continue  # lines aligned with a bracket above follow another rule
            choices = {w: f"\n{' ' * w}{match[2]}" for w in WIDTHS}
            wrong = tuple(choices[w] for w in WIDTHS if w != width)
            drafts.append(Draft(context, choices[width], wrong, file_of(document.source), document.family, str(width)))
            behind = cut + most // 2
    return drafts


def _whole_lines(context: str) -> str:
    """From the first line break on: a line that is cut has no indentation."""
    start = context.find("\n")
    return context[start:] if start >= 0 else ""
