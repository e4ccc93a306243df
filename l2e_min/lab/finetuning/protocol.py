"""Which runs a fair comparison takes, in which order, and which of them are reported (W24 Table 1 and 9).

Three steps, all of them on a task's dev rows, so that the test rows decide nothing:

1. *Search*: every method tries the same learning rates with the first seed.
2. *Tune*: MEmeL-Tune tries some more settings of k, D and learning rate, drawn from W24's grid; plain fine-tuning tries
   as many more learning rates. Both keep the best of all they have tried.
3. *Report*: each method's best setting with every seed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.methods import TITLES, Method
from l2e_min.lab.finetuning.run import FineTuneSettings
from l2e_min.lab.record import rounded

TUNED = {"memel_tune": "memel", "plain_tune": "plain"}
"""Methods with further trials, and what they are a setting of."""

ALL_TITLES = {**TITLES, "memel_tune": "MEmeL-Tune", "plain_tune": "original, tuned as long"}
"""Names for tables."""

GRID = (1, 5, 10, 50, 100)
"""W24's grid for both k and D of MEmeL-Tune."""

EXTRA = ("random", "entry")
"""Controls: plain fine-tuning of random weights; MEmeL with W24's reading of a neuron (``methods.READINGS``)."""


@dataclass(frozen=True)
class Protocol:
    """The size of a comparison."""

    methods: tuple[str, ...] = (*TITLES, *TUNED)
    rates: tuple[float, ...] = (2e-3, 1e-3, 5e-4)
    """Learning rates of the search."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    trials: int = 4
    """Further trials of a tuned method."""
    extra: tuple[str, ...] = EXTRA
    base: FineTuneSettings = field(default_factory=FineTuneSettings)
    """Everything else."""

    def __post_init__(self):
        for name in self.methods:
            if name not in ALL_TITLES:
                raise UserError(f"no such method: {name!r}; expected some of {', '.join(ALL_TITLES)}")
        if not self.rates or not self.seeds or not self.methods:
            raise UserError("a comparison needs at least one method, one learning rate and one seed")

    def searched(self) -> list[str]:
        """The methods that search learning rates."""
        needed = [TUNED.get(name, name) for name in self.methods]
        needed += ["plain"] if "random" in self.extra else []
        needed += ["memel"] if "entry" in self.extra else []
        return [name for name in TITLES if name in needed]

    def first_runs(self) -> list[FineTuneSettings]:
        """Steps 1 and 2 but for repeats: what can be run before anything is known."""
        first = replace(self.base, seed=self.seeds[0])
        runs = [replace(first, method=replace(first.method, name=name), learning_rate=rate)
                for name in self.searched() for rate in self.rates]  # fmt: skip
        for name in TUNED:
            if name in self.methods:
                runs += self.trials_of(name)
        return unique(runs)

    def trials_of(self, name: str) -> list[FineTuneSettings]:
        """The further trials of a tuned method: the same for every task."""
        first = replace(self.base, seed=self.seeds[0])
        rng = np.random.default_rng(2312_11560)
        if name == "plain_tune":
            low, high = math.log(min(self.rates) / 2), math.log(max(self.rates) * 2)
            # Evenly spread, from half the lowest to twice the highest; with four trials none repeats the search.
            places = (np.arange(self.trials) + 0.5) / max(1, self.trials)
            rates = [float(f"{math.exp(low + (high - low) * x):.2g}") for x in places]
            return [replace(first, method=Method("plain"), learning_rate=rate) for rate in rates]
        grid = [(k, d, rate) for k in GRID for d in GRID for rate in self.rates if (k, d) != (1, 1)]
        drawn = rng.permutation(len(grid))[: self.trials]
        return [
            replace(first, method=Method("memel", k=grid[i][0], strength=float(grid[i][1])), learning_rate=grid[i][2])
            for i in drawn
        ]

    def choose(self, name: str, rows: Iterable[dict]) -> FineTuneSettings:
        """The setting of method ``name`` with the best dev score among a task's ``rows`` of the first seed.

        Of equals the earlier in the order of ``first_runs``. UserError where one of its trials is missing.
        """
        first = replace(self.base, seed=self.seeds[0])
        under = TUNED.get(name, name)
        tried = [replace(first, method=replace(first.method, name=under), learning_rate=r) for r in self.rates]
        tried += self.trials_of(name) if name in TUNED else []
        rows = list(rows)
        scores = []
        for settings in tried:
            row = find(rows, settings)
            if row is None:
                raise UserError(f"the run {settings.key()} is missing: finish the search first")
            scores.append(row["dev"])
        return tried[int(np.argmax(scores))]

    def reported(self, rows: Iterable[dict]) -> dict[str, list[FineTuneSettings]]:
        """Step 3: by method, the chosen setting with every seed; and the controls."""
        rows = list(rows)
        chosen = {name: self.choose(name, rows) for name in self.methods}
        if "random" in self.extra:
            chosen["random"] = replace(self.choose("plain", rows), pretrained=False)
        if "entry" in self.extra:
            memel = self.choose("memel", rows)
            chosen["entry"] = replace(memel, method=replace(memel.method, reading="entry"))
        return {name: [replace(settings, seed=seed) for seed in self.seeds] for name, settings in chosen.items()}


def find(rows: Sequence[dict], settings: FineTuneSettings) -> dict | None:
    """The row of a run, None where it has not been made."""
    key = rounded(settings.key())  # as a record keeps it
    return next((row for row in rows if all(row.get(name) == value for name, value in key.items())), None)


def unique(runs: Sequence[FineTuneSettings]) -> list[FineTuneSettings]:
    """Without repeats, in order."""
    return list({tuple(run.key().items()): run for run in runs}.values())
