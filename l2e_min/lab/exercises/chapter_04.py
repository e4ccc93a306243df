"""Checks of chapter 4: how long until a threshold has kept its share, and the step without a division."""

import torch

from l2e_min import MovingThreshold
from l2e_min.lab.exercises.checking import as_number, call, described, exercise, must, number
from l2e_min.lab.retrieval_study.chase import FixedStep


@exercise("ex-bookkeeping")
def bookkeeping(answer) -> str:
    """Batches until the identity bounds the error by 1 %."""
    hints = {
        "c083ae890d71ab87": "that many batches bound the error by 1, which is 100 %",
        "2c885b5d3622adaf": "the factor is 2, so the way is log 2, the natural logarithm, not log 10 of 2",
        "e2c2230c6e05ecf5": "log tau moves by log 2, not by 2",
    }
    number("ex-bookkeeping", answer, "1af6368a62526528", -1, hints)
    return "to the nearest ten"


@exercise("ex-plain-step")
def plain_step(kind) -> str:
    """A threshold that moves by eta (f - k): like a constant rate of 0.1 near k, and not clipped far from it."""
    must(
        isinstance(kind, type) and issubclass(kind, MovingThreshold),
        f"a subclass of MovingThreshold is wanted, this is {described(kind)}",
    )

    def moved(make, share_above: float) -> float:
        threshold = call(make)
        before = threshold.log_tau.item()
        try:
            threshold.move(torch.tensor(share_above))
        except Exception as error:
            must(False, f"move stops with {type(error).__name__}: {error}")
        return as_number(threshold.log_tau) - before

    own = lambda: kind(0.02, start=10.0)  # noqa: E731
    must(abs(moved(own, 0.02)) < 1e-5, "with exactly the wanted share above it tau must stay where it is")
    up, down = moved(own, 0.04), moved(own, 0.0)
    must(up or down, "tau does not move at all; move must change self.log_tau")
    must(up > 0 > down, "tau must rise where too many pairs are above it, and fall where too few are")
    must(abs(up + down) < 1e-5, "2 points too many and 2 points too few must move log tau equally far")
    wanted = moved(lambda: FixedStep(0.1, 0.02, start=10.0), 0.04)
    must(
        abs(up / wanted - 1) < 1e-3,
        f"the direction is right, but your step is {up / wanted:.3g} times that of the effective rate 0.1",
    )
    must(abs(moved(own, 0.52) / (25 * up) - 1) < 1e-3, "the step must stay proportional to f - k; this one is clipped")
    return "a constant rate of 0.1 near the goal, and no clip far from it"
