"""Checks of chapter 7: the penalty's gradient, errors of test scores, and leads that chance makes."""

import math

import numpy as np
import torch
from scipy import stats

from l2e_min.lab.exercises.checking import NotYet, as_number, call, described, exercise, must, number


@exercise("ex-penalty-gradient")
def penalty_gradient(function) -> str:
    """Gradient of lambda times the mean of log (z - mean)^2 over the selected pairs, against autograd."""
    g = torch.Generator().manual_seed(23)
    z = torch.randn(6, 5, generator=g, dtype=torch.float64)
    mean = torch.randn(5, generator=g, dtype=torch.float64)
    mask = torch.rand(6, 5, generator=g) < 0.3
    mask[2, 1] = False
    z[2, 1] = mean[1]  # not selected, and at its mean
    before, weight = z.clone(), 0.3
    found = _a_tensor(function, z, mean, mask, weight)
    must(torch.equal(z, before), "your function changes z itself; make a new tensor")
    must(not found[2, 1].isnan(), "NaN for a value that is not selected and equals its mean: 0 times infinity")
    must(not found[~mask].any(), "values that are not selected have gradient 0")
    leaf = z.clone().requires_grad_()
    (right,) = torch.autograd.grad(weight * (leaf - mean)[mask].square().log().mean(), leaf)
    if not torch.allclose(found, right):
        raise NotYet(_why(found[mask], right[mask], (z - mean)[mask], weight, mask.numel()))
    nothing = _a_tensor(function, z, mean, torch.zeros_like(mask), weight)
    must(not nothing.isnan().any(), "NaN where nothing at all is selected; the gradient is 0 there")
    must(not nothing.any(), "where nothing at all is selected the gradient is 0")
    return "equal to autograd's, and 0 where nothing is selected"


def _a_tensor(function, z, *arguments) -> torch.Tensor:
    found = call(function, z, *arguments)
    must(isinstance(found, torch.Tensor), f"a tensor is wanted, this is {described(found)}")
    must(found.shape == z.shape, f"the shape is {tuple(found.shape)}; expected {tuple(z.shape)}, as z")
    return found.detach()


def _why(found, right, deviation, weight: float, pairs: int) -> str:
    """What a wrong gradient on the selected pairs may come from."""
    count = len(right)
    reasons = {
        -1.0: "it is the step down, not the gradient: the sign is reversed",
        0.5: "half of the right one; the derivative of the square is missing",
        count: "the penalty is a mean over the selected pairs, yours is of their sum",
        count / pairs: "divide by the number of selected pairs, not by that of all pairs",
        1 / weight: "the weight is missing",
    }
    factor = found / right
    if torch.allclose(factor, factor[0].expand_as(factor)):
        near = [reason for value, reason in reasons.items() if math.isclose(factor[0].item(), value, rel_tol=1e-6)]
        return near[0] if near else f"it is {factor[0].item():.3g} times the right one"
    if torch.allclose(found, right.abs()):
        return "the size is right, but below the mean the gradient points the other way"
    of_square = found / deviation
    if torch.allclose(of_square, of_square[0].expand_as(of_square)):
        return "that is the gradient of the square itself; the log makes it *smaller* for larger deviations"
    return "on the selected pairs it is not the derivative of log (z - mean)^2"


@exercise("ex-arc-error")
def arc_error(answer) -> str:
    """Standard error of the difference of two accuracies on 1,172 questions."""
    hints = {
        "48a1b4f6f40379e7": "that is the standard error of *each* number; how do the errors of a difference add up?",
        "0c9ef1dcf1b098ca": "independent errors do not add up, their squares do",
        "4e1258fbf1be4586": "that is a variance; the standard error is its root",
        "d973e41fa4af75c4": "that is the spread of a single question's difference; there are 1,172",
    }
    number("ex-arc-error", answer, "238ed0bfb5d7e847", 3, hints)
    return "compare the published gain with it"


@exercise("ex-after-the-fact")
def after_the_fact(share_of_leads) -> str:
    """How often at least one of several weights without effect shows an interval above 0, by simulation."""
    trials = 20_000
    for weights, seeds in ((1, 3), (4, 3), (10, 5)):
        found = as_number(call(share_of_leads, weights, seeds, trials))
        right = 0.025 if weights == 1 else _simulated(weights, seeds)
        allowed = 0.002 + 4.5 * math.sqrt(right * (1 - right) * (1 if weights == 1 else 2) / trials)
        if abs(found - right) <= allowed:
            continue
        case = f"with {weights} weight{'s' if weights > 1 else ''} and {seeds} seeds"
        near = [reason for value, reason in _suspects(weights, seeds) if abs(found - value) <= allowed]
        often = "too often" if found > right else "too rarely"
        raise NotYet(f"{case}: {near[0]}" if near else f"{case} {found:.3g} is {often}")
    return "as often as when it was counted here"


def _simulated(weights: int, seeds: int, trials: int = 20_000) -> float:
    draw = np.random.default_rng(29)
    gaps = draw.standard_normal((trials, weights, seeds)) - draw.standard_normal((trials, 1, seeds))
    half = stats.t.ppf(0.975, seeds - 1) * gaps.std(2, ddof=1) / math.sqrt(seeds)
    return float((gaps.mean(2) > half).any(1).mean())


def _suspects(weights: int, seeds: int) -> list[tuple[float, str]]:
    """(Share, reason) of likely mistakes."""
    quantile = stats.t.ppf(0.975, seeds - 1)
    found = [(1 - 0.975**weights, "every weight has a plain run of its own in yours; they share the plain runs")]
    if weights == 1:
        found = [
            (0.05, "twice too often; a lead is an interval *above* 0, and a 95 % interval leaves 2.5 % on each side"),
            (stats.t.sf(1.96, seeds - 1), "1.96 is for a known spread; with few seeds take Student's t"),
            (stats.t.sf(quantile * math.sqrt((seeds - 1) / seeds), seeds - 1), "the spread has the divisor n - 1"),
            (0.5, "you count differences above 0; the whole interval must lie there"),
        ]
    return [*found, (0.025 * weights, "that is how many weights lead on average; a trial may have two")]
