"""Who moves a selected value: its own gradient, the neuron's other selected inputs, or inputs that share weights."""

import torch
from torch import Tensor

from l2e_min.lab.toy.crowd import ACTIVATIONS, losses
from l2e_min.lab.toy.methods import Method, inhibit, network_phi, select
from l2e_min.lab.toy.tasks import Task
from l2e_min.lab.toy.training import Order, Trained

PARTS = ("the pair itself", "other selected", "not selected")


def contributions(
    trained: Trained, task: Task, method: Method, *, batches: int = 16, batch: int = 64
) -> dict[str, Tensor]:
    """First-order decrease of phi of the selected pairs by one SGD step, in percent, by who caused it; (S, T, B) each.

    With ``a = W1 x + b1`` the step moves a pair's value by
    ``dz_i = -rate f'(a_i) sum_k (x_i . x_k + 1) dL/da_k``: every input k of the batch has a say, as loud as it
    resembles i. The decrease is ``-2 dz / (z - mean)``. Batches, selection and moments are those of ``one_update``.
    """
    crowd = trained.crowd
    act = ACTIVATIONS[crowd.activation]
    with torch.no_grad():
        everything = crowd.values(task.train_x)
        mean, var = everything.mean(1), everything.var(1)  # (S, N)
    order = Order(len(task.train_x), batch, crowd.seeds)
    found: dict[str, list[Tensor]] = {name: [] for name in PARTS}
    for number in range(batches):
        rows = order.rows(number)
        x, y = task.train_x[rows], task.train_y[rows]  # (S, B, d), (S, B, H)
        a = torch.baddbmm(crowd.b1[:, None], x, crowd.w1).detach().requires_grad_()  # (S, B, N)
        z = act(a)
        (slope,) = torch.autograd.grad(z.sum(), a, retain_graph=True)  # f'(a)
        mask = select(Method("reverse"), network_phi(z.detach(), mean, var))
        seen, penalty = inhibit(method, z, mean, var, mask)
        (gradient,) = torch.autograd.grad(losses(crowd.outputs(seen), y, task.heads).sum() + penalty, a)
        neuron = mask.double().argmax(-1)  # (S, B) of each input i
        alike = x @ x.mT + 1  # (S, B, B): x_i . x_k + 1, the 1 is the bias
        columns = neuron[:, None].expand(-1, batch, -1)  # (S, k, i): the neuron of pair i
        said = gradient.gather(2, columns).mT * alike  # (S, i, k): what input k says to pair i
        chosen = mask.gather(2, columns).mT  # (S, i, k): whether k is selected at i's neuron
        own = torch.eye(batch, dtype=torch.bool).expand_as(chosen)
        at = neuron[..., None]
        scale = slope.gather(2, at)[..., 0] / (z.detach().gather(2, at)[..., 0] - mean.gather(1, neuron))
        for name, part in zip(PARTS, (own, chosen & ~own, ~chosen), strict=True):
            moved = -trained.rate * scale * torch.where(part, said, 0).sum(-1)  # dz / (z - mean)
            found[name].append((-200 * moved).detach())
    return {name: torch.stack(parts, 1) for name, parts in found.items()}
