"""How far a measurement is from its rule's bound, and how many seeds would decide what is open."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from l2e_min.lab.ledger.claims_file import Claim
from l2e_min.lab.ledger.measurement import Measurement, Result
from l2e_min.lab.ledger.verdicts import STATUS, Status, judge

MOST_SEEDS = 1000
"""Where the search for a number of seeds ends: beyond it, an effect of another size is asked for, not more seeds."""

Bound = tuple[str, str, Any]
"""Measure, kind of bound, limit or limits."""


def bounds(rule: Mapping) -> Iterator[Bound]:
    """The bounds of an expanded rule, in order."""
    if "measure" in rule:
        yield (rule["measure"], *next((kind, limit) for kind, limit in rule.items() if kind != "measure"))
    else:
        ((_, parts),) = rule.items()
        for part in parts:
            yield from bounds(part)


def margins(claim: Claim, result: Result) -> list[tuple[Bound, float]]:
    """Every bound of a claim's rule with the margin of what was measured."""
    return [(bound, margin(result.measurements[bound[0]], *bound[1:])) for bound in bounds(claim.rule)]


def margin(m: Measurement, kind: str, limit: Any) -> float:
    """Distance of the interval's centre from the bound, in half widths of the interval; positive on the claim's side.

    Above 1 the interval lies on the claim's side of the bound and the bound holds; below -1 it lies on the other side
    and the bound is refuted; between them the interval holds the bound. Infinite for an exact statement.
    """
    distance, half = _distance(m, kind, limit), (m.high - m.low) / 2
    if kind.startswith("value_"):
        return math.inf if distance >= 0 else -math.inf
    return distance / half if half else math.copysign(math.inf, distance) if distance else 0.0


def seeds_to_decide(m: Measurement, kind: str, limit: Any) -> int | None:
    """Fewest seeds at which the interval would no longer hold the bound, if centre and spread over seeds stay.

    From Student's interval over ``m.seeds`` seeds. ``MOST_SEEDS`` + 1: more than that. None: the bound is decided, or
    the interval is not one over seeds.
    """
    from scipy import stats

    if m.seeds < 2 or abs(margin(m, kind, limit)) > 1:
        return None
    distance, half = abs(_distance(m, kind, limit)), (m.high - m.low) / 2
    spread = half * math.sqrt(m.seeds) / stats.t.ppf(0.975, m.seeds - 1)
    for n in range(m.seeds + 1, MOST_SEEDS + 1):
        if stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) < distance:
            return n
    return MOST_SEEDS + 1


def leaning(claim: Claim, result: Result) -> Status:
    """The verdict if every interval shrank to its centre: where more of the same measurement would lead."""
    exact = {measure for measure, kind, _ in bounds(claim.rule) if kind.startswith("value_")}
    found = {
        name: Measurement.exact(m.value if name in exact else (m.low + m.high) / 2)
        for name, m in result.measurements.items()
    }
    return STATUS[judge(claim.rule, found)[0]]


def _distance(m: Measurement, kind: str, limit: Any) -> float:
    at = m.value if kind.startswith("value_") else (m.low + m.high) / 2
    if kind.endswith("within"):
        return min(at - limit[0], limit[1] - at)
    return limit - at if kind in ("interval_below", "value_at_most") else at - limit
