"""Checks of chapter 3: the largest K-S statistic, and phi of a feature from three numbers."""

import numpy as np

from l2e_min.lab.exercises.checking import NotYet, as_number, call, exercise, number


@exercise("ex-largest-ks")
def largest_ks(answer) -> str:
    """K-S against all inputs where the feature lies wholly above the rest."""
    hints = {
        "d4296df2522f865a": "that would be K-S against the *other* texts; here it is against all of them",
        "4d67b74fe61e1af7": "that is the share of the feature; how far apart do the two distribution functions come?",
    }
    number("ex-largest-ks", answer, "c7ccbdfd698d9db8", 2, hints)
    return "so K-S of datasets with different shares do not compare as they are"


@exercise("ex-closed-form")
def closed_form(phi_of_feature) -> str:
    """Mean phi from count, mean and variance, against the mean over single values."""
    rng = np.random.default_rng(13)
    for count, shift, mu, s2 in ((2, 0.0, 0.0, 1.0), (5, 1.5, 0.2, 0.5), (400, -3.0, 0.1, 2.0)):
        z = rng.standard_normal(count) + shift
        wanted = ((z - mu) ** 2 / s2).mean()
        found = as_number(call(phi_of_feature, count, z.mean(), z.var(ddof=1), mu, s2))
        if np.isclose(found, wanted, rtol=1e-9):
            continue
        case = f"for {count} values"
        if np.isclose(found, (z.var(ddof=1) + (z.mean() - mu) ** 2) / s2, rtol=1e-9):
            raise NotYet(f"{case} it is nearly right: v is a sample variance, with the divisor c - 1")
        if np.isclose(found, wanted * s2, rtol=1e-9):
            raise NotYet(f"{case} it is in the unit of z squared; phi has no unit")
        raise NotYet(f"{case} it is {found:.4g}, the mean of phi over the values is {wanted:.4g}")
    return "equal to the mean over single values"
