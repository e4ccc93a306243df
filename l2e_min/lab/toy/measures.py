"""What is measured on a trained crowd: accuracy, MS, variance, dead units, selectivity."""

from dataclasses import dataclass

import torch
from torch import Tensor

from l2e_min import feature_scores, monosemantic_scale, relative_feature
from l2e_min.lab.toy.crowd import Crowd, accuracy
from l2e_min.lab.toy.tasks import Task

DEAD = 1e-4
"""A unit counts as dead when its S^2 is below this: plain training ends at a median S^2 of about 0.4.

GELU units never fall silent entirely, so some limit is needed.
"""


@dataclass(frozen=True)
class Look:
    """One look at a crowd; every tensor is (S,), one number a network. Moments are fresh: from the test inputs."""

    step: int
    accuracy: Tensor
    """Share of right answers on the test inputs."""
    new_accuracy: Tensor | None
    """The same on combinations that training never showed; None where the task has none."""
    log_kurtosis: Tensor
    """log of the mean of phi^2 over inputs and living units: how heavy the tails of phi are."""
    top_phi: Tensor
    """Mean over inputs of the largest phi of the layer: what top-1 selection sees."""
    selectivity: Tensor
    """Mean over living units of phi on l*, l* chosen on the training inputs: about 1 for no preference."""
    log_variance: Tensor
    """log of the median S^2."""
    dead: Tensor
    """Share of units whose variance is gone, see ``DEAD``."""


@torch.no_grad()
def look(crowd: Crowd, task: Task, step: int = 0) -> Look:
    """Measures a crowd on a task's test inputs."""
    train_z, test_z = crowd.values(task.train_x), crowd.values(task.test_x)  # (S, n, N)
    found = [layer_numbers(a, b, task) for a, b in zip(train_z, test_z, strict=True)]
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True)]
    new = None if task.new_x is None else accuracy(crowd, task.new_x, task.new_y, task.heads)
    return Look(step, accuracy(crowd, task.test_x, task.test_y, task.heads), new, *columns)


def layer_numbers(train_z: Tensor, test_z: Tensor, task: Task) -> tuple[float, float, float, float, float]:
    """(log kurtosis, top phi, selectivity, log variance, dead share) of one network's layer, values (n, N)."""
    var = test_z.var(0)
    living = (var > DEAD) & (train_z.var(0) > DEAD)
    if not living.any():
        return float("nan"), float("nan"), float("nan"), var.median().clamp_min(1e-300).log().item(), 1.0
    a, b = train_z[:, living], test_z[:, living]
    phi = monosemantic_scale(b, b.mean(0), b.var(0))  # (n, living)
    star = relative_feature(monosemantic_scale(a, a.mean(0), a.var(0)), task.train_y[:, 0])
    scores = feature_scores(phi, task.test_y[:, 0], len(task.features))  # (L, living)
    on_star = scores.gather(0, star[None])[0]
    return (
        phi.square().mean().log().item(),
        phi.amax(1).mean().item(),
        on_star.mean().item(),
        var.median().clamp_min(1e-300).log().item(),
        1 - living.double().mean().item(),
    )
