"""From an interval to a verdict: a small rule language for claims, evaluated by code.

A rule is written in ``data/claims.yml`` before the runs. It is one of

* a bound on one measurement, ``{measure: NAME, BOUND: x}``. BOUND is one of

  ===================  ==========================  ==========================  ====================
  bound                holds                       is refuted                  is open
  ===================  ==========================  ==========================  ====================
  interval_above: x    low > x                     high < x                    otherwise
  interval_below: x    high < x                    low > x                     otherwise
  interval_within      a <= low and high <= b      high < a or low > b         otherwise
  value_at_most: x     value <= x                  value > x                   never
  value_at_least: x    value >= x                  value < x                   never
  value_within         a <= value <= b             otherwise                    never
  ===================  ==========================  ==========================  ====================

  The two ``within`` take ``[a, b]``. The ``value_`` bounds are for exact statements that have no sampling error.
* ``{all: [rules]}``, parts that are each needed: holds if all hold, refuted if one is refuted, otherwise open.
* ``{any: [rules]}``, parts of which one suffices: holds if one holds, refuted if all are refuted, otherwise open.
* ``{each: PANEL, rule: RULE}``, the same question asked of every item of a panel (data sets, metrics, places):
  holds if it holds for all, refuted if it is refuted for all; a mixed answer is open. ``{PANEL}`` in a measure's
  name stands for the item.

A rule that holds makes the verdict "reproduced", a refuted one "not reproduced", an open one "inconclusive".
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from l2e_min.lab.ledger.measurement import Measurement

Outcome = Literal["holds", "refuted", "open"]
Status = Literal["reproduced", "not reproduced", "inconclusive", "not yet"]

STATUS: dict[str, Status] = {"holds": "reproduced", "refuted": "not reproduced", "open": "inconclusive"}
"""Which verdict an outcome of the whole rule leads to."""

BOUND_WORDS = {
    "interval_above": "interval above {}",
    "interval_below": "interval below {}",
    "interval_within": "interval within {} to {}",
    "value_at_most": "at most {}",
    "value_at_least": "at least {}",
    "value_within": "between {} and {}",
}


@dataclass(frozen=True)
class Finding:
    """What became of one bound of a rule."""

    measure: str
    bound: str
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """The status of a claim, the reason in one line without numbers, and what became of every bound."""

    status: Status
    reason: str
    findings: tuple[Finding, ...] = ()


def expand(rule: Any, panels: Mapping[str, Sequence[str]]) -> dict:
    """The rule with every panel written out as ``{each: [rules]}``. ValueError says what is wrong with a rule."""
    if not isinstance(rule, Mapping) or not rule:
        raise ValueError(f"a rule is a mapping with 'measure', 'all', 'any' or 'each'; got {rule!r}")
    keys = set(rule)
    if "measure" in keys:
        return _checked_bound(rule)
    if keys == {"each", "rule"}:
        panel = rule["each"]
        if panel not in panels:
            raise ValueError(f"unknown panel {panel!r}; known are {', '.join(sorted(panels))}")
        if not any(f"{{{panel}}}" in name for name in _names(rule["rule"])):
            raise ValueError(f"'each: {panel}' needs {{{panel}}} in the name of a measure")
        return {"each": [expand(_filled(rule["rule"], panel, item), panels) for item in panels[panel]]}
    if keys in ({"all"}, {"any"}):
        (kind,) = keys
        if not isinstance(rule[kind], list) or not rule[kind]:
            raise ValueError(f"'{kind}' needs a list of rules; got {rule[kind]!r}")
        return {kind: [expand(part, panels) for part in rule[kind]]}
    raise ValueError(
        f"a rule has 'measure' and one bound, or 'all', or 'any', or 'each' and 'rule'; got {sorted(keys)}"
    )


def measures_of(rule: Mapping) -> list[str]:
    """Names of the measurements that an expanded rule needs, in order and once each."""
    return list(dict.fromkeys(_names(rule)))


def sampled_measures(rule: Mapping) -> list[str]:
    """Those of ``measures_of`` that a rule bounds by their interval: the ones for which the number of seeds matters."""
    if "measure" in rule:
        return [rule["measure"]] if _bound(rule)[0].startswith("interval_") else []
    ((_, parts),) = rule.items()
    return list(dict.fromkeys(name for part in parts for name in sampled_measures(part)))


def judge(rule: Mapping, measurements: Mapping[str, Measurement]) -> tuple[Outcome, tuple[Finding, ...]]:
    """Outcome of an expanded rule and what became of each of its bounds. KeyError where a measurement is missing."""
    if "measure" in rule:
        kind, limit = _bound(rule)
        outcome = _bound_outcome(measurements[rule["measure"]], kind, limit)
        return outcome, (Finding(rule["measure"], bound_words(kind, limit), outcome),)
    ((kind, parts),) = rule.items()
    judged = [judge(part, measurements) for part in parts]
    outcomes = {outcome for outcome, _ in judged}
    findings = tuple(finding for _, found in judged for finding in found)
    if len(outcomes) == 1:  # all parts agree: the three ways of joining do, too
        return outcomes.pop(), findings
    decisive = {"all": "refuted", "any": "holds", "each": None}[kind]
    return (decisive if decisive in outcomes else "open"), findings  # type: ignore[return-value]


def words(rule: Mapping, panels: Mapping[str, Sequence[str]]) -> str:
    """A rule, before ``expand``, in words."""
    if "measure" in rule:
        kind, limit = _bound(rule)
        return f"{rule['measure']} {'with its ' if kind.startswith('interval') else ''}{bound_words(kind, limit)}"
    if "each" in rule:
        inner = words(rule["rule"], panels)
        return f"for each {rule['each']} ({', '.join(panels[rule['each']])}): {inner}"
    ((kind, parts),) = rule.items()
    joined = [f"({words(part, panels)})" if "measure" not in part else words(part, panels) for part in parts]
    return (", and " if kind == "all" else ", or ").join(joined)


def bound_words(kind: str, limit: Any) -> str:
    """One bound in words, such as "interval above 0"."""
    limits = limit if isinstance(limit, list) else [limit]
    return BOUND_WORDS[kind].format(*(f"{x:g}" for x in limits))


def _bound_outcome(m: Measurement, kind: str, limit: Any) -> Outcome:
    if kind == "value_at_most":
        return "holds" if m.value <= limit else "refuted"
    if kind == "value_at_least":
        return "holds" if m.value >= limit else "refuted"
    if kind == "value_within":
        return "holds" if limit[0] <= m.value <= limit[1] else "refuted"
    if kind == "interval_within":
        low, high = limit
        return "holds" if low <= m.low and m.high <= high else "refuted" if m.high < low or m.low > high else "open"
    above, below = m.low > limit, m.high < limit
    if kind == "interval_below":
        above, below = below, above
    return "holds" if above else "refuted" if below else "open"


def _bound(rule: Mapping) -> tuple[str, Any]:
    return next((key, value) for key, value in rule.items() if key != "measure")


def _checked_bound(rule: Mapping) -> dict:
    kinds = sorted(set(rule) - {"measure"})
    if not isinstance(rule["measure"], str) or len(kinds) != 1 or kinds[0] not in BOUND_WORDS:
        raise ValueError(
            f"{rule['measure']!r} needs one bound of {', '.join(BOUND_WORDS)}; got {', '.join(kinds) or 'none'}"
        )
    limit = rule[kinds[0]]
    size = 2 if kinds[0].endswith("_within") else 1
    limits = limit if size == 2 else [limit]
    numbers = isinstance(limits, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in limits)
    if not numbers or len(limits) != size or not all(map(math.isfinite, limits)) or limits != sorted(limits):
        wanted = "[a, b] with a <= b" if size == 2 else "one number (write 1.0e-9, not 1e-9)"
        raise ValueError(f"{kinds[0]} of {rule['measure']!r} is {limit!r}; expected {wanted}")
    return dict(rule)


def _names(rule: Any) -> Iterator[str]:
    if isinstance(rule, Mapping):
        if isinstance(rule.get("measure"), str):
            yield rule["measure"]
        for value in rule.values():
            yield from _names(value)
    elif isinstance(rule, list):
        for value in rule:
            yield from _names(value)


def _filled(rule: Any, panel: str, item: str) -> Any:
    if isinstance(rule, Mapping):
        return {
            key: value.replace(f"{{{panel}}}", item) if key == "measure" else _filled(value, panel, item)
            for key, value in rule.items()
        }
    return [_filled(value, panel, item) for value in rule] if isinstance(rule, list) else rule
