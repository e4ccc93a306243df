"""Checks of chapter 2: the sum of phi, and joining moments."""

import numpy as np

from l2e_min.lab.exercises.checking import NotYet, as_number, call, described, exercise, must, number


@exercise("ex-phi-off")
def phi_off(answer) -> str:
    """Mean phi on the other texts, from the mean phi on the feature."""
    hints = {
        "f5906a2ee5ff2950": "that is what the other texts add to the weighted sum; divide by their share",
        "3c794f1ac8320d7f": "that would make the plain mean of the two 1; the two groups differ in size",
    }
    number("ex-phi-off", answer, "410e7835608cbe3e", 2, hints)
    return "and nothing but the share and the one mean went into it"


@exercise("ex-merge")
def merge(join) -> str:
    """Moments of two parts, against two passes over both."""
    rng = np.random.default_rng(11)
    for sizes, offset in (((5, 8), 0.0), ((3, 200), 2.0), ((60, 4), 1000.0), ((2, 2), -7.0)):
        parts = [
            rng.standard_normal(size) * scale + offset * i
            for i, (size, scale) in enumerate(zip(sizes, (1, 3), strict=True))
        ]
        first, second = ((len(x), x.mean(), x.var(ddof=1)) for x in parts)
        found = call(join, first, second)
        must(
            isinstance(found, tuple | list) and len(found) == 3, f"three numbers are wanted, this is {described(found)}"
        )
        count, mean, var = (as_number(part) for part in found)
        both = np.concatenate(parts)
        case = f"for {sizes[0]} and {sizes[1]} values"
        must(count == len(both), f"{case} the joint count is {len(both)}, yours is {count:g}")
        must(np.isclose(mean, both.mean(), rtol=1e-9), f"{case} the joint mean is not {mean:g}; is it weighted?")
        if not np.isclose(var, both.var(ddof=1), rtol=1e-9):
            raise NotYet(f"{case} the variance is off: {_why(var, first, second, both)}")
    return "equal to two passes over all values together"


def _why(var: float, first: tuple, second: tuple, both: np.ndarray) -> str:
    """What a wrong joint variance may come from."""
    (m, a, v), (k, b, w) = first, second
    between = m * k * (a - b) ** 2 / (m + k)
    lemma_as_it_stands = (between + (m - 1) * v + k * w) / (m + k - 1)
    if np.isclose(var, lemma_as_it_stands, rtol=1e-9):
        return "the lemma's v' has the divisor b, but here both variances are sample variances"
    if np.isclose(var, both.var(), rtol=1e-9):
        return "yours is the population variance of all; the sample variance is wanted"
    if np.isclose(var, both.var(ddof=1) - between / (m + k - 1), rtol=1e-9):
        return "the distance between the two means is missing"
    return f"yours is {var / both.var(ddof=1):.3g} times the right one"
