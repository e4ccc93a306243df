"""Training a crowd under any method, with what is seen on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from l2e_min.lab.errors import UserError
from l2e_min.lab.toy.crowd import Crowd, losses
from l2e_min.lab.toy.measures import Look, look
from l2e_min.lab.toy.methods import CrowdMoments, Method, inhibit, network_phi, select
from l2e_min.lab.toy.tasks import Task

PLAIN = Method()
LATE_START = 10  # batches before anything is inhibited (W24 C.2)
RATES = {"sgd": 0.5, "adamw": 1e-2}
"""Learning rates of plain training: on five seeds that the book does not show, on both tasks, within a percentage point
of the best accuracy of a grid (SGD 0.05 to 2, AdamW 0.001 to 0.03); SGD at 2 fails on the digits."""


@dataclass
class Trained:
    """A crowd after training, and what it went through."""

    crowd: Crowd
    optimizer: torch.optim.Optimizer
    moments: CrowdMoments
    """As the training batches left them."""
    rate: float
    looks: list[Look] = field(default_factory=list)


def make_optimizer(crowd: Crowd, name: str, rate: float) -> torch.optim.Optimizer:
    """Plain SGD, or AdamW with PyTorch's defaults."""
    if name == "sgd":
        return torch.optim.SGD(crowd.parameters(), lr=rate)
    if name == "adamw":
        return torch.optim.AdamW(crowd.parameters(), lr=rate)
    raise UserError(f"no such optimizer: {name!r}; expected sgd or adamw")


def train(
    task: Task,
    method: Method = PLAIN,
    *,
    seeds: Sequence[int],
    steps: int = 450,
    batch: int = 64,
    hidden: int = 32,
    optimizer: str = "sgd",
    rate: float | None = None,
    activation: str = "gelu",
    look_at: Sequence[int] = (),
) -> Trained:
    """Trains one network a seed. ``look_at``: after these steps the crowd is measured (0: before the first)."""
    crowd = Crowd(task.train_x.shape[1], hidden, sum(task.heads), seeds, activation)
    rate = RATES.get(optimizer, 0.0) if rate is None else rate  # make_optimizer refuses an unknown name
    opt = make_optimizer(crowd, optimizer, rate)
    moments = CrowdMoments(len(seeds), hidden)
    trained = Trained(crowd, opt, moments, rate)
    order = Order(len(task.train_x), batch, seeds)
    generator = torch.Generator().manual_seed(0)  # for the control that selects at random
    for step in range(steps + 1):
        if step in look_at:
            trained.looks.append(look(crowd, task, step))
        if step == steps:
            break
        rows = order.rows(step)  # (S, B)
        opt.zero_grad()
        total = batch_loss(trained, method, task.train_x[rows], task.train_y[rows], task.heads, generator)
        total.backward()
        opt.step()
    return trained


def batch_loss(trained: Trained, method: Method, x: Tensor, y: Tensor, heads, generator=None) -> Tensor:
    """Loss of one batch, summed over the networks, with penalty; then the batch is taken into the moments."""
    z = trained.crowd.values(x)  # (S, B, N)
    penalty, seen = 0.0, z
    if method.kind != "plain" and trained.moments.batches >= LATE_START:
        mean, var = trained.moments.mean.clone(), trained.moments.var.clone()
        mask = select(method, network_phi(z.detach(), mean, var), generator)
        seen, penalty = inhibit(method, z, mean, var, mask)
    trained.moments.update(z.detach())
    return losses(trained.crowd.outputs(seen), y, heads).sum() + penalty


class Order:
    """Which rows each network reads at each step: every row once an epoch, in an order drawn from the seed alone."""

    def __init__(self, n: int, batch: int, seeds: Sequence[int]):
        self.n, self.batch, self.seeds = n, batch, tuple(seeds)
        self.per_epoch = n // batch
        if self.per_epoch < 1:
            raise UserError(f"a batch of {batch} is more than the {n} training inputs")
        self._epoch, self._orders = -1, torch.empty(0)

    def rows(self, step: int) -> Tensor:
        """(S, B) row numbers."""
        epoch, at = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            drawn = [torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch) for seed in self.seeds]
            self._orders = torch.stack([torch.randperm(self.n, generator=g) for g in drawn])
            self._epoch = epoch
        return self._orders[:, at * self.batch : (at + 1) * self.batch]
