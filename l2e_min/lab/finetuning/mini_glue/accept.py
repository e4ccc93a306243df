"""accept (CoLA's kind): a sentence as it was written, or the same with its words disturbed?"""

import re

import numpy as np

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, rng_of, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Pieces, shuffled
from l2e_min.lab.finetuning.task import Task

FUNCTION = tuple("the a an of to in is are be by for with from on at as that this which if or and not it".split())
"""Words of which grammar allows few in a given place."""

FORMS = {"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "this": "these",
         "these": "this", "be": "been", "does": "do", "do": "does"}  # fmt: skip
"""The other number or form of common words."""

KINDS = ("move", "swap", "drop", "replace", "form")
LONG = 12  # words from which on a sentence is disturbed twice: one slip in a long sentence is hard to see


def accept(pieces: Pieces) -> Task:
    """Every other sentence is disturbed; the other half stays as it is. No sentence is used twice."""
    split = {}
    for part, found in by_part(pieces.sentences).items():
        rng, real, disturbed = rng_of("accept", part), [], []
        for piece in shuffled(found, "accept"):
            if len(real) + len(disturbed) == SIZES[part]:
                break
            text = disturb(piece.text, rng)  # asked of both halves, so that both are sentences that can be disturbed
            if text is None:
                continue
            if len(real) > len(disturbed):
                disturbed.append((text, None, 0, piece.source))
            else:
                real.append((piece.text, None, 1, piece.source))
        n = min(len(real), len(disturbed))
        split[part] = rows([*real[:n], *disturbed[:n]], f"accept/{part}")
    return Task(
        "accept", "acceptability", "classification", "matthews", ("disturbed", "written"), **split, like="CoLA",
        about="A sentence of a docstring, comment or manual, as it was written or with its words disturbed: one moved, "
        "two swapped, a function word left out or replaced, a form changed (twice in sentences of 12 words or more).",
    )  # fmt: skip


def disturb(sentence: str, rng: np.random.Generator) -> str | None:
    """The sentence with one of `KINDS` done to it (two from `LONG` words on); None where none is possible.

    First and last word stay in place, so capital and full stop tell nothing.
    """
    tokens = sentence.split(" ")
    for _ in range(2 if len(tokens) >= LONG else 1):
        for kind in rng.permutation(KINDS):
            changed = _STEPS[kind](tokens, rng)
            if changed is not None and changed != tokens:
                tokens = changed
                break
        else:
            return None
    text = " ".join(tokens)
    return None if text == sentence else text


def _plain(tokens: list[str], wanted=lambda word: True) -> list[int]:
    """Places inside the sentence of lower-case words without punctuation."""
    return [i for i in range(1, len(tokens) - 1) if re.fullmatch("[a-z]+", tokens[i]) and wanted(tokens[i])]


def _move(tokens: list[str], rng: np.random.Generator) -> list[str] | None:
    places = _plain(tokens)
    if len(places) < 4:
        return None
    start = int(rng.choice(places))
    ends = [i for i in range(1, len(tokens) - 1) if 2 <= abs(i - start) <= 5]
    if not ends:
        return None
    rest = tokens[:start] + tokens[start + 1 :]
    end = int(rng.choice(ends))
    return [*rest[:end], tokens[start], *rest[end:]]


def _swap(tokens: list[str], rng: np.random.Generator) -> list[str] | None:
    inside = set(_plain(tokens))
    places = [i for i in inside if i + 1 in inside and (tokens[i] in FUNCTION) != (tokens[i + 1] in FUNCTION)]
    if not places:
        return None
    i = int(rng.choice(sorted(places)))
    return [*tokens[:i], tokens[i + 1], tokens[i], *tokens[i + 2 :]]


def _drop(tokens: list[str], rng: np.random.Generator) -> list[str] | None:
    places = _plain(tokens, FUNCTION[:14].__contains__)
    if not places:
        return None
    i = int(rng.choice(places))
    return tokens[:i] + tokens[i + 1 :]


def _replace(tokens: list[str], rng: np.random.Generator) -> list[str] | None:
    places = _plain(tokens, FUNCTION.__contains__)
    if len(set(tokens[i] for i in places)) < 2:
        return None
    i = int(rng.choice(places))  # by one that stands elsewhere in the sentence: frequencies stay as they are
    others = [tokens[k] for k in places if tokens[k] != tokens[i]]
    return [*tokens[:i], str(rng.choice(others)), *tokens[i + 1 :]]


def _form(tokens: list[str], rng: np.random.Generator) -> list[str] | None:
    places = _plain(tokens, FORMS.__contains__)
    if not places:
        return None
    i = int(rng.choice(places))
    return [*tokens[:i], FORMS[tokens[i]], *tokens[i + 1 :]]


_STEPS = {"move": _move, "swap": _swap, "drop": _drop, "replace": _replace, "form": _form}
