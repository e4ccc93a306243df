"""The False Killing Rate of a study's rows: its curve over levels, its minimum, and layer by layer (C08, C09)."""

import numpy as np

from l2e_min.lab.ledger.measurement import Measurement
from l2e_min.lab.study.dataset import DEPTH, PLACE
from l2e_min.lab.study.levels import SHARES
from l2e_min.lab.study.trends import Row, over_seeds

LOWEST, HIGHEST = 0.001, 0.5
"""The levels among which a minimum is looked for (C08)."""


def by_layer(row: Row, dataset: str, part: int = DEPTH) -> np.ndarray:
    """(layers, S): FKR of each layer at ``SHARES``, l* chosen on other rows; NaN below one pair."""
    return np.array(row["datasets"][dataset]["fkr"][part], dtype=float)


def curve(row: Row, dataset: str, part: int = DEPTH) -> np.ndarray:
    """(S,): mean over layers."""
    return by_layer(row, dataset, part).mean(0)


def at(share: float, rates: np.ndarray) -> np.ndarray:
    """FKR at any level between those measured; rates (..., S)."""
    return np.apply_along_axis(lambda r: np.interp(np.log(share), np.log(SHARES), r), -1, rates)


def place_of_minimum(row: Row, dataset: str) -> float:
    """The level with the lowest FKR, on the rows PLACE."""
    shares, rates = np.array(SHARES), curve(row, dataset, PLACE)
    inside = (shares >= LOWEST) & (shares <= HIGHEST) & np.isfinite(rates)
    return float(shares[inside][rates[inside].argmin()])


def arms(row: Row, dataset: str) -> tuple[float, float, float]:
    """C08 for one model: FKR at 0.1 % and at 50 % above the minimum, and log2 of the minimum's place over 2 %.

    The place is chosen on one part of the rows; both heights are measured on the other.
    """
    place, rates = place_of_minimum(row, dataset), curve(row, dataset, DEPTH)
    bottom = at(place, rates)
    return float(at(LOWEST, rates) - bottom), float(at(HIGHEST, rates) - bottom), float(np.log2(place / 0.02))


def worst_arms(rows: list[Row], dataset: str) -> dict[str, Measurement]:
    """C08's three numbers, each of the scale where it is worst for the claim; intervals over seeds."""
    left, right, place = (over_seeds(rows, lambda row, i=i: arms(row, dataset)[i]) for i in range(3))
    return {
        "left_arm": min(left.values(), key=lambda m: m.value),
        "right_arm": min(right.values(), key=lambda m: m.value),
        "minimum": max(place.values(), key=lambda m: abs(m.value)),
    }


def middle_minus_rest(row: Row, dataset: str, share: float = 0.02) -> float | None:
    """C09: FKR of the two middle layers minus that of the others; None with fewer than four layers."""
    rates = at(share, by_layer(row, dataset))  # (layers,)
    if len(rates) < 4:
        return None
    start = (len(rates) - 2) // 2  # W25's Mid-2, as ``sites="middle-2"`` takes them
    middle = np.zeros(len(rates), dtype=bool)
    middle[start : start + 2] = True
    return float(rates[middle].mean() - rates[~middle].mean())
