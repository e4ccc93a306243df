"""Checks of the book's exercises: they tell right from wrong without giving the answer away."""

from l2e_min.lab.exercises import chapter_01, chapter_02, chapter_03, chapter_04, chapter_05  # noqa: F401  (they enter their checks)
from l2e_min.lab.exercises.checking import check

__all__ = ["check"]
