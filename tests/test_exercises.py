"""Checks of exercises: the right answer passes, likely mistakes get a remark, chapters keep the promise."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from l2e_min import MovingThreshold
from l2e_min.lab.errors import UserError
from l2e_min.lab.exercises import check
from l2e_min.lab.exercises.checking import CHECKS, NotYet, as_number

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import execute  # noqa: E402

KINDS = {"Recall", "Code", "Experiment", "Critique"}


def said(capsys, label, answer) -> str:
    check(label, answer)
    return capsys.readouterr().out.removeprefix(f"{label}: ").strip()


# --- the answers


def best_threshold(z, on):
    """By cumulative counts, midway between the values."""
    order = np.argsort(-z)
    z, hits = z[order], np.cumsum(on[order])
    f1 = 2 * hits / (np.arange(1, len(z) + 1) + on.sum())  # the first 1, 2, ... texts say yes
    f1[:-1][z[1:] == z[:-1]] = 0  # no threshold lies between equal values
    i = f1.argmax()
    return z[i] - 1 if i == len(z) - 1 else (z[i] + z[i + 1]) / 2


def join(first, second):
    """By sums of squares."""
    (m, a, v), (k, b, w) = first, second
    mean = (m * a + k * b) / (m + k)
    squares = (m - 1) * v + m * (a - mean) ** 2 + (k - 1) * w + k * (b - mean) ** 2
    return m + k, mean, squares / (m + k - 1)


class PlainStep(MovingThreshold):
    def move(self, share_above, ok=None):
        self.log_tau = self.log_tau + 5 * (share_above - self.share)


RIGHT = {
    "ex-always-yes": 0.18,
    "ex-threshold": best_threshold,
    "ex-phi-off": 2 / 3,
    "ex-merge": join,
    "ex-largest-ks": 0.9,
    "ex-closed-form": lambda c, m, v, mu, s2: (m**2 - 2 * m * mu + mu**2 + v * (1 - 1 / c)) / s2,
    "ex-bookkeeping": 1387,
    "ex-naive-b": lambda z, mean, mask: z + ((mean - z) * mask).detach(),
    "ex-plain-step": PlainStep,
}


@pytest.mark.parametrize("label", sorted(CHECKS))
def test_right(label, capsys):
    assert said(capsys, label, RIGHT[label]).startswith("right")


@pytest.mark.parametrize("label", sorted(CHECKS))
@pytest.mark.parametrize("answer", [None, ..., lambda *_: None])
def test_not_begun(label, answer, capsys):
    assert said(capsys, label, answer).startswith("not yet: ")


def step(eta: float, clip: float = 100.0, sign: int = 1) -> type:
    class Step(MovingThreshold):
        def move(self, share_above, ok=None):
            self.log_tau = self.log_tau + sign * eta * (share_above - self.share).clamp(-1, clip)

    return Step


def sample_as_population(first, second):
    (m, a, v), (k, b, w) = first, second
    between = m * k * (a - b) ** 2 / (m + k)
    return m + k, (m * a + k * b) / (m + k), (between + (m - 1) * v + k * w) / (m + k - 1)


def changed(join, i, by):
    """``join`` with ``by`` in the place of part ``i`` of what it returns."""

    def other(first, second):
        parts = list(join(first, second))
        parts[i] = by(parts, first, second)
        return parts

    return other


WRONG = [
    ("ex-always-yes", 0.1, "that is the precision"),
    ("ex-always-yes", 1, "that is its recall"),
    ("ex-always-yes", 18.18, "in per cent"),
    ("ex-always-yes", 0.3, "0.3 is not it"),
    ("ex-always-yes", float("nan"), "a finite number"),
    ("ex-always-yes", "many", "one number is wanted, this is str"),
    ("ex-threshold", 3.0, "a function is wanted, this is float"),
    ("ex-threshold", lambda z, on: np.median(z), "another one"),
    ("ex-threshold", lambda z, on: z, "one number is wanted, this is ndarray of shape (40,)"),
    ("ex-threshold", lambda z, on: min(z[z > best_threshold(z, on)]), "nearly"),
    ("ex-threshold", lambda z, on: z.sort() or 0.0, "changes z or on"),
    ("ex-threshold", lambda z, on: 1 / 0, "ZeroDivisionError in line"),
    ("ex-phi-off", 0.6, "divide by their share"),
    ("ex-phi-off", -2 / 3, "the sign is not"),
    ("ex-merge", lambda a, b: a[0], "three numbers are wanted"),
    ("ex-merge", lambda a: a, "TypeError"),
    ("ex-merge", changed(join, 0, lambda parts, a, b: a[0]), "the joint count is 13"),
    ("ex-merge", changed(join, 1, lambda parts, a, b: (a[1] + b[1]) / 2), "is it weighted?"),
    ("ex-merge", sample_as_population, "the lemma's v' has the divisor b"),
    (
        "ex-merge",
        changed(join, 2, lambda parts, a, b: parts[2] * (parts[0] - 1) / parts[0]),
        "population variance of all",
    ),
    (
        "ex-merge",
        changed(join, 2, lambda parts, a, b: ((a[0] - 1) * a[2] + (b[0] - 1) * b[2]) / (parts[0] - 1)),
        "the distance between the two means is missing",
    ),
    ("ex-merge", changed(join, 2, lambda parts, a, b: 2 * parts[2]), "yours is 2 times"),
    ("ex-largest-ks", 1, "against the *other* texts"),
    ("ex-largest-ks", 0.1, "that is the share"),
    ("ex-closed-form", lambda c, m, v, mu, s2: (v + (m - mu) ** 2) / s2, "v is a sample variance"),
    ("ex-closed-form", lambda c, m, v, mu, s2: v / s2, "the mean of phi over the values is"),
    ("ex-closed-form", lambda c, m, v, mu, s2: v * (1 - 1 / c) + (m - mu) ** 2, "for 5 values it is in the unit"),
    ("ex-naive-b", lambda z, mean, mask: mean, "the shape is (4,); expected (6, 4)"),
    ("ex-naive-b", lambda z, mean, mask: 3.0, "a tensor is wanted"),
    ("ex-naive-b", lambda z, mean, mask: z.data.mul_(2), "changes z itself"),
    ("ex-naive-b", lambda z, mean, mask: z + (mean - z).detach(), "not selected must stay as they are"),
    ("ex-naive-b", lambda z, mean, mask: z + 0, "must become their neuron's mean"),
    ("ex-naive-b", lambda z, mean, mask: torch.where(mask, mean, z).detach(), "no gradient goes back at all"),
    ("ex-naive-b", lambda z, mean, mask: torch.where(mask, mean, z), "that is naive (a)"),
    ("ex-naive-b", lambda z, mean, mask: torch.where(mask, -z + (mean + z).detach(), z), "Reverse Deactivation"),
    ("ex-naive-b", lambda z, mean, mask: torch.where(mask, 2 * z + (mean - 2 * z).detach(), z), "not as if untouched"),
    ("ex-naive-b", lambda z, mean, mask: torch.where(mask, z - z.detach() + mean, z), "also reaches the mean"),
    ("ex-bookkeeping", 13.86, "which is 100 %"),
    ("ex-bookkeeping", 602, "natural logarithm"),
    ("ex-plain-step", 5.0, "a subclass of MovingThreshold"),
    ("ex-plain-step", MovingThreshold, "2.25 times that"),
    ("ex-plain-step", step(5, clip=0.01), "equally far"),
    ("ex-plain-step", step(0.0), "does not move at all"),
    ("ex-plain-step", step(5, sign=-1), "must rise where too many"),
    ("ex-plain-step", step(1), "0.2 times that of the effective rate"),
    ("ex-plain-step", step(5, clip=0.04), "this one is clipped"),
]


@pytest.mark.parametrize(("label", "answer", "remark"), WRONG)
def test_wrong_answers_get_a_remark(label, answer, remark, capsys):
    text = said(capsys, label, answer)
    assert text.startswith("not yet: ") and remark in text and "\n" not in text


def test_unknown_exercise():
    with pytest.raises(UserError, match="no exercise 'ex-none' has a check; there are ex-always-yes"):
        check("ex-none", 1)


@pytest.mark.parametrize("one", [3, 3.0, np.float32(3), np.array([3]), torch.tensor(3.0, requires_grad=True)])
def test_every_kind_of_number(one):
    assert as_number(one) == 3.0
    with pytest.raises(NotYet):
        as_number([3, 4])


# --- the chapters


def exercises(source: Path) -> list[tuple[str, str]]:
    """(kind, label) of every exercise; the kind is '' where none is named."""
    return re.findall(r"^# :{3,}\{exercise\} ?(.*)\n# :label: (\S+)", source.read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("source", [s for s in execute.chapters() if exercises(s)], ids=lambda path: path.stem)
def test_a_chapter_has_four_exercises_with_folded_solutions(source):
    found, text = exercises(source), source.read_text(encoding="utf-8")
    labels = [label for _, label in found]
    assert len(labels) >= 4 and len(set(labels)) == len(labels)
    assert re.findall(r"^# :{3,}\{solution\} (\S+)\n# :class: dropdown", text, re.M) == labels
    kinds = {kind for kind, _ in found}
    if kinds != {""}:
        assert kinds == KINDS, "recall, code, experiment and critique"
        assert 'tags=["exercise"]' in text


@pytest.mark.parametrize("source", execute.chapters(), ids=lambda path: path.stem)
def test_a_checked_exercise_is_open_and_its_solution_right(source):
    """What the committed notebook shows: the cell to fill in says "not yet", the folded solution "right"."""
    import nbformat

    made = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    labels = {label for _, label in exercises(source)}
    for tag, verdict in (("exercise", "not yet: "), ("solution", "right")):
        cells = [cell for cell in made.cells if tag in cell.metadata.get("tags", [])]
        for cell in cells:
            (label,) = re.findall(r'^check\("([\w-]+)", ', cell.source, re.M)
            (output,) = cell.outputs
            assert label in labels and output.text.startswith(f"{label}: {verdict}"), output.text
            labels_of_tag = [re.findall(r'check\("([\w-]+)"', cell.source)[0] for cell in cells]
        assert not cells or labels_of_tag == [n for n in (label for _, label in exercises(source)) if n in CHECKS]


def test_every_check_has_its_exercise():
    assert set(CHECKS) == {label for source in execute.chapters() for _, label in exercises(source)} & set(CHECKS)
