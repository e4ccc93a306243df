"""Next sentence: which sentence of the file follows?"""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from l2e_min.lab.choice.item import CHOICES, Draft
from l2e_min.lab.choice.pool import PROSE, choice_after, context_before, file_of
from l2e_min.lab.text.document import Document

CONTEXT, CHOICE = 128, 56
"""Characters: the end of what precedes, the beginning of the sentence."""

SHORT = 28
"""The same for an example."""

LEAST = 24
"""Characters of a sentence at least."""

_END = re.compile(r"(?<=[a-z0-9)\]'`\"])[.!?](?=\s+[A-Z])")
_PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\"()./`_*-]*$")


def next_sentence(pool: Sequence[Document], rng: np.random.Generator, short: bool = False) -> list[Draft]:
    """The wrong sentences stand in other paragraphs of the same file, none of them as the first. White space is one."""
    most, choice = (SHORT, SHORT) if short else (CONTEXT, CHOICE)
    by_file = defaultdict(list)  # (family, file): (paragraph, what precedes, beginning of the sentence)
    for number, document in enumerate(d for d in pool if d.family in PROSE):
        for block, paragraph in enumerate(re.split(r"\n\s*\n", document.text)):
            text = " ".join(paragraph.split()) + " "
            for end in [m.end() for m in _END.finditer(text)]:
                begins = choice_after(text, end, choice)
                if len(begins) >= min(LEAST, choice / 2) and _PLAIN.match(begins[1:]):
                    before = context_before(text, end, most)
                    by_file[document.family, file_of(document.source)].append(((number, block), before, begins))
    drafts = []
    for (family, source), there in sorted(by_file.items()):
        for paragraph, before, begins in there:
            others = [b for p, _, b in there if p != paragraph]
            if len(others) >= CHOICES - 1 and len(before) >= most / 2:
                wrong = tuple(others[i] for i in rng.choice(len(others), CHOICES - 1, replace=False))
                drafts.append(Draft(before, begins, wrong, source, family))
    return drafts
