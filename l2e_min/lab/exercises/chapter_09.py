"""Check of chapter 9: how far an interval lies from its bound."""

import numpy as np

from l2e_min.lab.exercises.checking import NotYet, as_number, call, exercise


@exercise("ex-board-margin")
def margin(function) -> str:
    """Distance of the interval's centre from the bound, in half widths."""
    for value, low, high, bound in (
        (0.4, 0.2, 0.6, 0.1),
        (0.4, 0.2, 0.6, 0.5),
        (0.1, 0.05, 0.45, 0.0),
        (-2.0, -3, -1, 1.5),
    ):
        found = as_number(call(function, value, low, high, bound))
        half = (high - low) / 2
        right = (low + high) / 2 - bound
        if np.isclose(found, right / half):
            continue
        case = f"[{low}, {high}] against {bound}"
        suspects = (
            (-right / half, 'the rule is "above"; the sign is reversed'),
            (right, "the distance is in the measurement's own unit; divide by the half width"),
            (right / (2 * half), "you divide by the whole width"),
            (
                (value - bound) / half,
                "measured from the value, not from the interval's centre; they differ where it is lopsided",
            ),
            (
                (low - bound) / half,
                "measured from the interval's end; that is above 0 where the rule holds, not above 1",
            ),
        )
        near = [reason for wrong, reason in suspects if np.isclose(found, wrong)]
        raise NotYet(f"{case}: {near[0]}" if near else f"{case}: {found:.3g} is not it")
    return "above 1 exactly where the interval lies above the bound"
