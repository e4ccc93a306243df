"""Checks of exercises: the right answer passes, likely mistakes get a remark, chapters keep the promise."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from l2e_min import MovingThreshold, ms_penalty
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


def top_value(phi, real):
    """By sorting; the last axis is the longer one."""
    mask = torch.zeros_like(phi, dtype=torch.bool)
    for row in range(len(phi)):
        order = phi[row].flatten().argsort(descending=True).tolist()
        best = next(i for i in order if real[row, i // phi.shape[2]])
        mask[row, best // phi.shape[2], best % phi.shape[2]] = True
    return mask


def seeds_needed(half_width, seeds, gain):
    """From above."""
    spread = half_width * seeds**0.5 / stats.t.interval(0.95, seeds - 1)[1]
    return max([2, *(n + 1 for n in range(2, 2000) if stats.t.interval(0.95, n - 1)[1] * spread / n**0.5 >= gain)])


def penalty_gradient(z, mean, mask, weight):
    """By autograd, through the package's penalty."""
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(weight * ms_penalty(z, mean, torch.ones_like(mean), mask), z)
    return gradient


def gradient_times(factor):
    """Of another size; ``factor`` (z, mean, mask, weight)."""
    return lambda *given: penalty_gradient(*given) * factor(*given)


def leads(shared=True, quantile=lambda n: stats.t.ppf(0.975, n - 1), ddof=1, both=False, count=False, interval=True):
    """The simulation of chapter 7, and its likely mistakes."""

    def share(weights, seeds, trials):
        g = np.random.default_rng(3)
        gaps = g.normal(size=(trials, weights, seeds)) + g.normal(size=(trials, 1 if shared else weights, seeds))
        low = gaps.mean(-1) - interval * quantile(seeds) * gaps.std(-1, ddof=ddof) / seeds**0.5
        found = low > 0
        if both:
            found |= gaps.mean(-1) < -(gaps.mean(-1) - low)
        return found.sum(1).mean() if count else found.any(1).mean()

    return share


DIAGNOSIS = {"A": "weight", "B": "LayerNorm", "C": "eval", "D": "forgotten", "E": "validation", "F": "fine"}


def complaints(report, usual, steps, by_place=False, least=0.01, most=0.04, part=0.1):
    """The decision list's points, one after the other."""
    found = []
    for place, row in enumerate(report.rows):
        (before,) = [r for r in usual.rows if r["site"] == row["site"]]
        before = usual.rows[place] if by_place else before
        found += [(row["site"], "batches")] if row["batches"] != steps else []
        found += [(row["site"], "skipped")] if row["skipped"] else []
        found += [(row["site"], "share")] if row["share"] < least or row["share"] > most else []
        found += [(row["site"], "variance")] if row["variance"] < part * before["variance"] else []
    return set(found)


def mean_hook(neurons, change=lambda z: z.clone(), mean=lambda z: z.reshape(-1, z.shape[-1]).mean(0), back=True):
    def hook(module, inputs, z):
        means, out = mean(z), change(z)
        for n in neurons:
            out[..., n] = means[..., n]
        return out if back else None

    return hook


def accumulate(net, inhibitor, parts):
    """All forward passes, then one backward pass."""
    losses = [nn.functional.cross_entropy(net(x), y) for x, y in parts]
    loss = torch.stack(losses).mean()
    (loss + inhibitor.penalty() / len(parts)).backward()
    return loss


def accumulated(
    part=lambda loss, penalty, n: (loss + penalty) / n, told=lambda losses, totals: np.mean(losses), last=False
):
    """Accumulation with likely mistakes."""

    def run(net, inhibitor, parts):
        losses, totals = [], []
        for x, y in parts:
            loss = nn.functional.cross_entropy(net(x), y)
            total = part(loss, inhibitor.penalty(), len(parts))
            if last:
                net.zero_grad()
            total.backward()
            losses.append(loss.item())
            totals.append(total.item())
        return told(losses, totals)

    return run


def stepping(net, inhibitor, parts):
    loss = accumulate(net, inhibitor, parts)
    torch.optim.SGD(net.parameters(), 0.1).step()
    return loss


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
    "ex-power": seeds_needed,
    "ex-top-value": top_value,
    "ex-largest-of-many": 0.1497,
    "ex-penalty-gradient": penalty_gradient,
    "ex-arc-error": 0.0158,
    "ex-after-the-fact": leads(),
    "ex-own-diagnose": DIAGNOSIS,
    "ex-own-code": complaints,
    "ex-own-hook": mean_hook,
    "ex-own-accumulate": accumulate,
    "ex-board-margin": lambda value, low, high, bound: 1 + 2 * (low - bound) / (high - low),
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
    ("ex-power", lambda half, n, gain: np.ceil(n * (half / gain) ** 2), "t falls as well when n grows"),
    ("ex-power", lambda half, n, gain: 1, "at least two"),
    ("ex-power", lambda half, n, gain: 2.5, "a whole number"),
    ("ex-power", lambda half, n, gain: 3, "with 3 seeds the half width would still be"),
    ("ex-power", lambda half, n, gain: seeds_needed(half, n, gain) + 1, "one seed less than yours gives"),
    (
        "ex-power",
        lambda half, n, gain: max(2, np.ceil((1.96 * half * n**0.5 / stats.t.ppf(0.975, n - 1) / gain) ** 2)),
        "1.96 is the factor",
    ),
    ("ex-top-value", lambda phi, real: phi.flatten(1).argmax(1), "a boolean tensor of shape (5, 7, 4)"),
    ("ex-top-value", lambda phi, real: phi, "and torch.float32"),
    ("ex-top-value", lambda phi, real: phi.mul_(2) > 1, "changes phi"),
    ("ex-top-value", lambda phi, real: phi == phi.max(), "one value of the whole batch"),
    ("ex-top-value", lambda phi, real: phi == phi.amax(2, keepdim=True), "one value a position"),
    ("ex-top-value", lambda phi, real: phi == phi.amax(1, keepdim=True), "one value a dimension"),
    ("ex-top-value", lambda phi, real: phi > 1, "values of a row are selected; one is wanted"),
    ("ex-top-value", lambda phi, real: phi == phi.amax((1, 2), keepdim=True), "a value on padding"),
    ("ex-top-value", lambda phi, real: phi == phi.amin((1, 2), keepdim=True), "but not the largest"),
    ("ex-largest-of-many", 0.162, "a row may have two"),
    ("ex-largest-of-many", 0.078, "on both sides"),
    ("ex-largest-of-many", 0.85, "without such a value"),
    ("ex-largest-of-many", 6e-5, "the share of *values*"),
    ("ex-largest-of-many", 15, "in per cent"),
    ("ex-penalty-gradient", lambda z, *_: 0.0, "a tensor is wanted"),
    ("ex-penalty-gradient", lambda z, *_: z.sum(0), "expected (6, 5), as z"),
    ("ex-penalty-gradient", lambda z, *_: z.mul_(2), "changes z itself"),
    ("ex-penalty-gradient", lambda z, m, k, w: k * 2 * w / (z - m) / k.sum(), "0 times infinity"),
    ("ex-penalty-gradient", lambda z, m, k, w: 2 * w / (z - m + 1e-9) / k.sum(), "not selected have gradient 0"),
    ("ex-penalty-gradient", lambda z, m, k, w: torch.where(k, 2 * w / (z - m), 0) / k.sum(), "where nothing at all"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: -1), "the sign is reversed"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: 0.5), "the derivative of the square"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: k.sum()), "a mean over the selected pairs"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: k.sum() / k.numel()), "not by that of all pairs"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: 1 / w), "the weight is missing"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: 7), "7 times the right one"),
    ("ex-penalty-gradient", gradient_times(lambda z, m, k, w: (z - m).sign()), "points the other way"),
    ("ex-penalty-gradient", lambda z, m, k, w: k * 2 * w * (z - m) / k.sum(), "the gradient of the square itself"),
    ("ex-penalty-gradient", lambda z, m, k, w: k * z, "not the derivative of log"),
    ("ex-arc-error", 0.0112, "of *each* number"),
    ("ex-arc-error", 0.0224, "their squares do"),
    ("ex-arc-error", 0.00025, "that is a variance"),
    ("ex-arc-error", 0.542, "of a single question"),
    ("ex-arc-error", 1.6, "in per cent"),
    ("ex-after-the-fact", leads(both=True), "twice too often"),
    ("ex-after-the-fact", leads(quantile=lambda n: stats.t.ppf(0.95, n - 1)), "twice too often"),
    ("ex-after-the-fact", leads(quantile=lambda n: 1.96), "1.96 is for a known spread"),
    ("ex-after-the-fact", leads(ddof=0), "the divisor n - 1"),
    ("ex-after-the-fact", leads(interval=False), "the whole interval"),
    ("ex-after-the-fact", leads(shared=False), "they share the plain runs"),
    ("ex-after-the-fact", leads(count=True), "how many weights lead on average"),
    ("ex-after-the-fact", lambda weights, seeds, trials: 0.4, "with 1 weight and 3 seeds 0.4 is too often"),
    ("ex-own-diagnose", "weight", "a dictionary is wanted"),
    ("ex-own-diagnose", {"A": "weight"}, "a word is wanted for each of A, B"),
    ("ex-own-diagnose", DIAGNOSIS | {"B": ..., "E": None}, "B, E still open"),
    ("ex-own-diagnose", DIAGNOSIS | {"A": "too high"}, "too high: not among the words fine"),
    ("ex-own-diagnose", DIAGNOSIS | {"B": "logits", "D": "fine"}, "4 of 6 are right; B: look at its neurons"),
    ("ex-own-code", lambda *_: {"first": "share"}, "a list of pairs is wanted, this is dict"),
    ("ex-own-code", lambda *_: ["share"], "every complaint is a pair"),
    ("ex-own-code", lambda *given: complaints(*given, by_place=True), "match rows by `site`"),
    ("ex-own-code", lambda *_: [], "120 batches after 200 steps of the second site: yours says nothing"),
    ("ex-own-code", lambda *given: complaints(*given, least=0), "a share of 0.005"),
    ("ex-own-code", lambda *given: complaints(*given, most=1), "a share of 0.07"),
    ("ex-own-code", lambda *given: complaints(*given, part=0.01), "S² of 0.2 where it was 3.2"),
    ("ex-own-code", lambda now, usual, steps: [(r["site"], "tau") for r in now.rows], "yours says first: tau"),
    ("ex-own-hook", lambda neurons: 3, "a hook is a function, too"),
    ("ex-own-hook", lambda neurons: mean_hook(neurons, change=lambda z: z), "others may still need them"),
    ("ex-own-hook", lambda neurons: mean_hook(neurons, change=torch.zeros_like), "not named must stay"),
    ("ex-own-hook", lambda neurons: mean_hook(neurons, back=False), "what a hook *returns*"),
    ("ex-own-hook", lambda neurons: mean_hook(neurons, mean=lambda z: z.mean(0)), "all axes but the last"),
    ("ex-own-hook", lambda neurons: mean_hook(neurons, mean=lambda z: z.mean()[None].expand(5)), "their own mean"),
    ("ex-own-hook", lambda neurons: lambda module, inputs, z: z.mean(0), "expected a tensor of shape (6, 5)"),
    ("ex-own-accumulate", stepping, "leave the step to the optimizer"),
    ("ex-own-accumulate", lambda net, inhibitor, parts: 1.0, "where is backward()"),
    ("ex-own-accumulate", accumulated(lambda loss, p, n: loss / n), "the penalty is missing from the gradient"),
    ("ex-own-accumulate", accumulated(lambda loss, p, n: loss), "missing from the gradient, and the parts"),
    ("ex-own-accumulate", accumulated(lambda loss, p, n: loss + p), "the gradient of the sum"),
    ("ex-own-accumulate", accumulated(lambda loss, p, n: loss / n + p), "the penalty is not"),
    ("ex-own-accumulate", accumulated(lambda loss, p, n: loss + p / n), "the loss is not"),
    ("ex-own-accumulate", accumulated(last=True), "only the last part's"),
    ("ex-own-accumulate", accumulated(lambda loss, p, n: 3 * loss), "not that of the mean"),
    ("ex-own-accumulate", accumulated(told=lambda losses, totals: sum(losses)), "the losses' sum"),
    ("ex-own-accumulate", accumulated(told=lambda losses, totals: losses[-1]), "the last part's loss"),
    ("ex-own-accumulate", accumulated(told=lambda losses, totals: sum(totals)), "without the penalty"),
    ("ex-board-margin", lambda value, low, high, bound: (bound - (low + high) / 2) / (high - low) * 2, "reversed"),
    ("ex-board-margin", lambda value, low, high, bound: (low + high) / 2 - bound, "divide by the half width"),
    ("ex-board-margin", lambda value, low, high, bound: ((low + high) / 2 - bound) / (high - low), "whole width"),
    ("ex-board-margin", lambda value, low, high, bound: (value - bound) / (high - low) * 2, "where it is lopsided"),
    ("ex-board-margin", lambda value, low, high, bound: (low - bound) / (high - low) * 2, "not above 1"),
    ("ex-board-margin", lambda value, low, high, bound: 7.5, "7.5 is not it"),
]


@pytest.mark.parametrize(("label", "answer", "remark"), WRONG)
def test_wrong_answers_get_a_remark(label, answer, remark, capsys):
    text = said(capsys, label, answer)
    assert text.startswith("not yet: ") and remark in text and "\n" not in text


def test_unknown_exercise():
    with pytest.raises(UserError, match=r"no exercise 'ex-none' has a check; there are .*ex-always-yes"):
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


LESSONS = [source for source in execute.chapters() if 1 <= int(source.stem[:2]) <= 9]


@pytest.mark.parametrize("source", LESSONS, ids=lambda path: path.stem)
def test_a_chapter_has_four_exercises_with_folded_solutions(source):
    found, text = exercises(source), source.read_text(encoding="utf-8")
    labels = [label for _, label in found]
    assert len(labels) >= 4 and len(set(labels)) == len(labels)
    assert re.findall(r"^# :{3,}\{solution\} (\S+)\n# :class: dropdown", text, re.M) == labels
    assert {kind for kind, _ in found} == KINDS, "recall, code, experiment and critique"
    assert any(kind == "Code" and label in CHECKS for kind, label in found), "a code exercise with a check"


def test_no_other_page_has_exercises():
    assert [source.stem for source in execute.chapters() if exercises(source) and source not in LESSONS] == []


def cells_of(source: Path, tag: str) -> dict[str, str]:
    """{label: code} of the cells with that tag."""
    cells = execute.read_source(source).cells
    tagged = [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
    return {re.findall(r'^check\("([\w-]+)", ', code, re.M)[0]: code for code in tagged}


def imports_for(source: Path, code: str) -> str:
    """The chapter's imports of names that the code uses."""
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    wanted = []
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [a for a in node.names if (a.asname or a.name) in used]
            wanted += [ast.unparse(node)] if node.names else []
    return "\n".join(wanted)


@pytest.mark.parametrize("source", LESSONS, ids=lambda path: path.stem)
def test_a_cell_to_fill_in_is_open_and_its_solution_right(source, capsys):
    """The cells of the source, run on their own with the chapter's imports: what a learner's copy can rely on."""
    given, solved = cells_of(source, "exercise"), cells_of(source, "solution")
    order = [label for _, label in exercises(source) if label in CHECKS]
    assert list(given) == list(solved) == order and order
    for label in order:
        for code, verdict in ((given[label], "not yet: "), (solved[label], "right")):
            exec(compile(f"{imports_for(source, code)}\n{code}", label, "exec"), {})
            assert capsys.readouterr().out.startswith(f"{label}: {verdict}"), code


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
