"""The pretraining comparison in small: a few runs of a few steps on six documents of five words.

As a program it is the recorder of that comparison.
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

from l2e_min.lab.pretraining_study import plan, record, run
from l2e_min.lab.training import pretrain

PEAK, STEPS, EARLY = 4e-3, 24, 12

SETTINGS = {"batch": 4, "context": 16, "vocabulary": 300, "log_every": 2, "validate_every": 4, "precision": "fp32"}


def corpus() -> SimpleNamespace:
    """Six documents of five words to train on and two to validate on."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["the", "neuron", "def", "return", "x"], k=200)) for _ in range(8)]
    documents = [SimpleNamespace(text=text) for text in texts]
    return SimpleNamespace(name="words", train=documents[:6], validation=documents[6:], fingerprint="f" * 64)


def tiny(treatment: str, seed: int, rate: float = PEAK, **more) -> plan.Run:
    """A run of the small comparison."""
    return plan.Run(treatment, rate, seed, **{"size": "16x2", "steps": STEPS} | more)


STAGES = {
    "search": lambda rows: [tiny("plain", 0), tiny("memel", 0)],
    "compare": lambda rows: [tiny("plain", 1), tiny("memel", 1), tiny("plain", 1)],
    "late": lambda rows: [tiny("l2e .003", 1, PEAK / 10, steps=EARLY, start=PEAK)],
}


def shrink(put: Callable[[object, str, object], None]) -> None:
    """Makes the comparison small; ``put`` is ``setattr`` or a monkeypatch's."""
    settings = plan.Run.settings
    put(plan.Run, "settings", lambda self, initial="": replace(settings(self, initial), **SETTINGS))
    put(run, "corpus", corpus)
    put(run, "LOOK_ROWS", 8)
    put(run, "_held_out", {})
    for module in (plan, run):
        put(module, "STEPS", STEPS)
        put(module, "EARLY", EARLY)
    put(plan, "SIZE", "16x2")
    put(record, "STAGES", STAGES)


def slowly(make: Callable, name: str) -> Callable:
    """``run.make`` that takes its time over the run whose folder has this name: a fifth of a second a step."""
    step = pretrain.training_step

    def slow_step(*arguments):
        time.sleep(0.2)
        return step(*arguments)

    def slow_make(each: plan.Run, out):
        pretrain.training_step = slow_step if each.folder.endswith(name) else step
        return make(each, out)

    return slow_make


if __name__ in ("__main__", "__mp_main__"):  # the second: in the recorder's processes
    shrink(setattr)
if __name__ == "__main__":
    sys.exit(record.main())
