"""Checks of the book's exercises: they tell right from wrong without giving the answer away."""

from l2e_min.lab.exercises import (  # noqa: F401  (they enter their checks)
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
)
from l2e_min.lab.exercises.checking import check

__all__ = ["check"]
