"""``check(label, answer)``: "right", or "not yet" with a reason.

A function is judged by properties and by slow independent computations on numbers drawn here, a number by the hash of
its rounded value, a word by its hash. None of them holds the answer in a form that a reader stumbles over.
"""

import hashlib
import math
import sys
import traceback
from collections.abc import Callable, Sequence

import numpy as np

from l2e_min.lab.errors import UserError


class NotYet(Exception):
    """Why an answer is not right yet, in words for the learner."""


CHECKS: dict[str, Callable] = {}
"""Label of an exercise -> a function of the answer that raises :class:`NotYet` or returns a remark."""


def exercise(label: str) -> Callable:
    """Enters a check under the label of its exercise."""

    def enter(judge: Callable) -> Callable:
        if label in CHECKS:
            raise ValueError(f"two checks are called {label}")
        CHECKS[label] = judge
        return judge

    return enter


def check(label: str, answer) -> None:
    """Prints whether ``answer``, a function, class or number, solves the exercise ``label``, and what is amiss if not.

    UserError: no exercise with that label has a check.
    """
    if label not in CHECKS:
        raise UserError(f"no exercise {label!r} has a check; there are {', '.join(sorted(CHECKS))}")
    try:
        must(not unfinished(answer), "put your answer in the place of the dots, then run the cell again")
        comment = CHECKS[label](answer)
    except NotYet as reason:
        print(f"{label}: not yet: {reason}")
        return
    print(f"{label}: right" + (f": {comment}" if comment else ""))


def must(condition, reason: str) -> None:
    """NotYet with ``reason`` unless the condition holds."""
    if not condition:
        raise NotYet(reason)


def unfinished(answer) -> bool:
    """Whether an answer is still the dots that the exercise came with, or nothing."""
    return answer is None or answer is ...


def call(function: Callable, *arguments):
    """What the learner's function returns. NotYet: it is no function, stops with an error, or returns nothing."""
    must(callable(function), f"a function is wanted, this is {described(function)}")
    try:
        result = function(*arguments)
    except Exception as error:
        file = getattr(getattr(function, "__code__", None), "co_filename", None)
        lines = [frame.lineno for frame in traceback.extract_tb(sys.exc_info()[2]) if frame.filename == file]
        where = f" in line {lines[-1]} of the cell" if lines else ""
        raise NotYet(f"your code stops with {type(error).__name__}{where}: {error}") from error
    must(not unfinished(result), "your function returns nothing yet; does it end with return?")
    return result


def described(thing) -> str:
    """Type and, where there is one, shape of a value, in words."""
    shape = getattr(thing, "shape", None)
    return type(thing).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")


def as_number(answer) -> float:
    """The answer as a float. NotYet: it is no single finite number."""
    try:
        value = float(np.asarray(answer.detach() if hasattr(answer, "detach") else answer).item())
    except (TypeError, ValueError):
        raise NotYet(f"one number is wanted, this is {described(answer)}") from None
    must(math.isfinite(value), f"a finite number is wanted, this is {value}")
    return value


def digest(label: str, value: float, digits: int) -> str:
    """Hash of a number, rounded to ``digits`` decimals (-1: to tens). The label keeps equal answers apart."""
    rounded = round(value, digits) + 0.0  # no -0.0
    return hashlib.sha256(f"{label} {rounded:.{max(digits, 0)}f}".encode()).hexdigest()[:16]


def number(label: str, answer, expected: str, digits: int, hints: dict[str, str] | None = None) -> None:
    """Judges a number by its ``digest``; ``hints`` has a remark for the digests of likely wrong answers."""
    value = as_number(answer)
    found = digest(label, value, digits)
    if found == expected:
        return
    must(digest(label, value / 100, digits) != expected, "that is the number in per cent; give it as a share of 1")
    must(digest(label, -value, digits) != expected, "the size is right, the sign is not")
    raise NotYet((hints or {}).get(found, f"{value:g} is not it"))


def word_digest(label: str, key: str, word: str) -> str:
    """Hash of the word chosen for ``key``."""
    return hashlib.sha256(f"{label} {key} {word}".encode()).hexdigest()[:16]


def choices(label: str, answer, words: Sequence[str], expected: dict[str, str], looks: dict[str, str]) -> None:
    """Judges a dictionary of words by their ``word_digest``; ``looks``: for each key, where a wrong one should look."""
    must(isinstance(answer, dict), f"a dictionary is wanted, this is {described(answer)}")
    must(set(answer) == set(expected), f"a word is wanted for each of {', '.join(expected)}")
    open_keys = [key for key in expected if unfinished(answer[key])]
    must(not open_keys, f"{', '.join(open_keys)} still open")
    strange = [str(word) for word in answer.values() if word not in words]
    must(not strange, f"{', '.join(strange)}: not among the words {', '.join(words)}")
    wrong = [key for key in expected if word_digest(label, key, answer[key]) != expected[key]]
    right = len(expected) - len(wrong)
    must(not wrong, f"{right} of {len(expected)} are right" + (f"; {wrong[0]}: {looks[wrong[0]]}" if wrong else ""))
