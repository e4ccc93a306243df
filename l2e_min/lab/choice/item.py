"""A multiple-choice question, and a task made of many."""

from dataclasses import dataclass

CHOICES = 4
CHANCE = 1 / CHOICES


@dataclass(frozen=True)
class Item:
    """One question: which of the `choices` goes on after the `context`?"""

    context: str
    """Ends before white space (or before a bracket), so that its tokens do not depend on what follows."""

    choices: tuple[str, ...]
    """Four continuations, each with its leading white space."""

    answer: int
    """Number of the right one."""

    source: str
    """The file it is cut from."""

    family: str
    """The kind of text of that file, as in the corpus."""

    examples: tuple[str, ...] = ()
    """Solved questions (context and right choice) from other files, to stand before the context."""


@dataclass(frozen=True)
class ChoiceTask:
    """Questions of one kind. `score` says how an answer is chosen, see `evaluate`."""

    name: str
    title: str
    """A few words for tables."""

    score: str
    """ "pmi": log-likelihood of a choice with its context minus without; "sum": with its context alone."""

    shots: int
    """Solved examples that an item comes with (a model with a short context is shown as many as fit)."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class Draft:
    """A question before the choices have an order. `kind`: what the right choice is, where items balance it."""

    context: str
    right: str
    wrong: tuple[str, ...]
    source: str
    family: str
    kind: str = ""
