"""A network whose truth is planted, so that one hidden unit is monosemantic by construction, and its next updates."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab.errors import UserError
from l2e_min.lab.toy.crowd import Crowd, losses
from l2e_min.lab.toy.methods import Method, inhibit
from l2e_min.lab.toy.tasks import Task

UNIT, FEATURE = 0, 0  # the planted unit, and the only feature it answers to


def planted_network(features: int = 8, hidden: int = 8, each: int = 8, seed: int = 0) -> tuple[Crowd, Task]:
    """One network (a crowd of one) and its data.

    Inputs are a feature's unit vector plus noise (standard deviation 0.1), ``each`` of every feature. Unit 0 reads
    feature 0 alone; every other unit fires on a random half of the *other* features and on nothing else, so feature 0
    has no other unit. The output layer is scikit-learn's logistic regression on the hidden values.
    """
    from sklearn.linear_model import LogisticRegression

    if features < 3 or hidden < 2 or each < 2:
        raise UserError("a planted network needs at least 3 features, 2 units and 2 inputs of each feature")
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(features), each)
    x = np.eye(features)[y] + 0.1 * rng.normal(size=(len(y), features))  # (n, L)
    reads = np.zeros((features, hidden))
    reads[FEATURE, UNIT] = 1
    for unit in range(1, hidden):
        reads[rng.permutation(np.arange(1, features))[: features // 2], unit] = 1
    crowd = Crowd(features, hidden, features, seeds=(seed,))
    with torch.no_grad():
        crowd.w1.copy_(torch.from_numpy(3 * reads))  # high enough for GELU to be nearly linear where a unit fires
        crowd.b1.zero_()
        x_t, y_t = torch.from_numpy(x), torch.from_numpy(y)[:, None]
        z = crowd.values(x_t)[0].numpy()  # (n, N)
        output = LogisticRegression(C=1.0, max_iter=1000).fit(z, y)
        crowd.w2.copy_(torch.from_numpy(output.coef_.T))
        crowd.b2.copy_(torch.from_numpy(output.intercept_))
    names = tuple(f"feature {i}" for i in range(features))
    return crowd, Task("planted", x_t, y_t, x_t, y_t, (features,), names)


@dataclass(frozen=True)
class Path:
    """One input's value of the planted unit along the updates."""

    value: Tensor
    """(steps + 1,) z before the first update and after each."""
    gradient: Tensor
    """(steps + 1,) what reaches z there: task gradient as the method changes it, plus the penalty's."""
    off: Tensor
    """(steps + 1,) mean value of the unit on all other features."""
    accuracy: Tensor
    """(steps + 1,) share of right answers without inhibition."""
    mean: float
    """Mean of the unit over all inputs before the first update: the fixed target."""


def follow(
    crowd: Crowd,
    task: Task,
    method: Method,
    *,
    steps: int = 10,
    rate: float = 1.0,
    alone: bool = False,
    select_all: bool = True,
    watched: int = 0,
    optimizer: Callable = torch.optim.SGD,
) -> Path:
    """Follows the planted unit on one input of its feature through ``steps`` updates; the crowd stays as it was.

    Args:
        method: its ``k`` and ``share`` are not used: the unit is selected by its planted truth.
        rate: learning rate.
        alone: the batch is the watched input alone, else all inputs.
        select_all: all inputs of the feature are selected, else the watched one alone.
        watched: number of the input; it must be of the unit's feature.
        optimizer: function of (parameters, lr=...).

    Moments are those of all inputs before the first update and stay fixed. The loss is the mean over the
    batch.
    """
    if int(task.train_y[watched, 0]) != FEATURE:
        raise UserError(f"input {watched} is not of the planted unit's feature")
    crowd = copy.deepcopy(crowd)
    with torch.no_grad():
        z = crowd.values(task.train_x)
        mean, var = z.mean(1), z.var(1)  # (1, N)
    rows = torch.tensor([watched]) if alone else torch.arange(len(task.train_x))
    x, y = task.train_x[rows], task.train_y[rows]
    place = int((rows == watched).nonzero())
    mask = torch.zeros(1, len(rows), crowd.hidden, dtype=torch.bool)
    mask[0, :, UNIT] = (y[:, 0] == FEATURE) if select_all else (rows == watched)
    opt = optimizer(crowd.parameters(), lr=rate)
    elsewhere = task.train_y[:, 0] != FEATURE
    found = []
    for _ in range(steps + 1):
        opt.zero_grad()
        z = crowd.values(x)  # (1, B, N)
        z.retain_grad()
        seen, penalty = inhibit(method, z, mean, var, mask)
        (losses(crowd.outputs(seen), y, task.heads).sum() + penalty).backward()
        with torch.no_grad():
            right = crowd(task.train_x)[0].argmax(-1) == task.train_y[:, 0]
            off = crowd.values(task.train_x)[0, elsewhere, UNIT].mean()
            found.append(
                (z[0, place, UNIT].item(), z.grad[0, place, UNIT].item(), off.item(), right.double().mean().item())
            )
        opt.step()
    value, gradient, off, accuracy = torch.tensor(found, dtype=torch.float64).T
    return Path(value, gradient, off, accuracy, mean[0, UNIT].item())
