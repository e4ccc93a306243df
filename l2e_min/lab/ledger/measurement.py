"""A measured number with its 95 % interval: what a rule looks at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """One measured number with its 95 % interval. ValueError where a number is missing or the interval is reversed."""

    value: float
    """The estimate."""
    low: float
    """Lower end of the 95 % interval; equal to ``value`` for an exact statement."""
    high: float
    """Upper end of the 95 % interval."""
    seeds: int
    """How many independently trained (or drawn) models are behind it; 1 for a measurement on one model."""
    n: int | None = None
    """How many things were counted or averaged (neurons, texts, batches), if that says something."""
    unit: str | None = None
    """Unit of value, low and high, such as "nats" or "points"; None for a pure number."""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = float(getattr(self, name))  # also accepts NumPy and torch scalars
            if not math.isfinite(number):
                raise ValueError(f"{name} is {number}; a measurement needs finite numbers")
            object.__setattr__(self, name, number)
        if self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] is reversed; expected low <= high")
        if isinstance(self.seeds, bool) or int(self.seeds) != self.seeds or self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds!r}; expected a whole number, 1 or more")
        object.__setattr__(self, "seeds", int(self.seeds))
        object.__setattr__(self, "n", None if self.n is None else int(self.n))

    @classmethod
    def exact(cls, value: float, seeds: int = 1, **more: Any) -> "Measurement":
        """A number without sampling error, for the ``value_`` bounds: the interval is the value itself."""
        return cls(value, value, value, seeds, **more)

    @classmethod
    def over_seeds(cls, values: Sequence[float], **more: Any) -> "Measurement":
        """Mean over seeds with the 95 % interval of Student's t. ``values``: one number a seed, at least two."""
        if len(values) < 2:
            raise ValueError(f"{len(values)} value(s) given; an interval over seeds needs at least two")
        import numpy as np
        from scipy import stats

        x = np.asarray(values, dtype=np.float64)  # (seeds,)
        half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
        return cls(x.mean(), x.mean() - half, x.mean() + half, len(x), **more)


@dataclass(frozen=True)
class Result:
    """What a chapter measured for one claim, as it stands in ``<id>.json``."""

    id: str
    measurements: dict[str, Measurement]
    profile: str
    chapter: str
    notes: str
    rule: str
    """Fingerprint of the rule when this was recorded."""
    versions: dict[str, str]
    machine: str
    """Kind of processor, such as x86_64."""
    made_by: dict[str, str] = field(default_factory=dict)
    """Code and records behind the numbers: a short hash for each file (``seal.py``); empty: never sealed."""
    sealed: str = ""
    """Why the seal was set by hand; empty: the run that measured has set it."""

    @property
    def seeds(self) -> int:
        """Fewest seeds behind any of the measurements."""
        return min(m.seeds for m in self.measurements.values())
