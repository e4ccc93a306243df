"""W24 Table 4 in small: one update from trained weights, and what it does to the values that were selected."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from l2e_min.lab.errors import UserError
from l2e_min.lab.toy.crowd import losses
from l2e_min.lab.toy.methods import Method, inhibit, network_phi, select
from l2e_min.lab.toy.tasks import Task
from l2e_min.lab.toy.training import Order, Trained

KINDS = {
    "original": Method("plain"),
    "naive (a)": Method("freeze"),
    "naive (b)": Method("straight_through"),
    "RD": Method("reverse"),
}
"""The rows of W24's table; each input's neuron with the largest phi is selected (W24's MEmeL)."""


HISTORIES = {
    "kept": "as training left it, the same before every update",
    "fresh": "nothing, as at the start of fine-tuning",
    "no momentum": "Adam's second moments as training left them, no first moments (beta_1 = 0)",
    "own": "as training left it before the first update, then the gradients of the kind itself",
}
"""What an optimizer remembers before an update. Plain SGD remembers nothing, so all are the same for it."""


@dataclass(frozen=True)
class Updates:
    """Selected pairs before and after one update, by kind; (S, T, B): network, batch, input of the batch."""

    before: Tensor
    """Values z of the selected pairs."""
    after: dict[str, Tensor]
    """Values z' on the same inputs after the update."""
    mean: Tensor
    """Fixed moments of the pair's neuron."""
    var: Tensor
    useful: Tensor
    """Boolean: the loss at the mean wants the value to go back where it was, Lemma 3.3's assumption."""

    def decrease(self, kind: str) -> Tensor:
        """Decrease ratio (1 - phi(z') / phi(z)) in percent, (S, T, B)."""
        phi = (self.before - self.mean).square() / self.var
        return 100 * (1 - (self.after[kind] - self.mean).square() / self.var / phi)

    def moved(self, kind: str) -> Tensor:
        """Total update ratio |z' / z - 1| in percent, (S, T, B); NaN where a ReLU unit was and stays at 0."""
        return 100 * (self.after[kind] / self.before - 1).abs()

    def by_seed(self, kind: str, versus: str | None = None) -> Tensor:
        """(S,): the median decrease ratio over a batch's pairs, in percent, averaged over the batches.

        ``versus``: minus that of another kind on the same batch, in percentage points.
        """
        median = self.decrease(kind).median(-1).values  # (S, T)
        if versus is not None:
            median = median - self.decrease(versus).median(-1).values
        return median.mean(1)


def one_update(
    trained: Trained,
    task: Task,
    *,
    batches: int = 16,
    batch: int = 64,
    factor: float = 1.0,
    kinds: dict[str, Method] = KINDS,
    history: str = "kept",
) -> Updates:
    """Every kind's update from the same weights on the same batches; the crowd is left as it was.

    Args:
        trained: the crowd, its optimizer (with its state) and learning rate.
        batches: T; networks do not share them.
        factor: on the learning rate of training.
        kinds: what is done, by name; all select the same pairs.
        history: what the optimizer remembers, see ``HISTORIES``.

    The moments are those of all training inputs at these weights, and stay fixed.
    """
    crowd = trained.crowd
    with torch.no_grad():
        everything = crowd.values(task.train_x)  # (S, n, N)
        mean, var = everything.mean(1), everything.var(1)
    if history not in HISTORIES:
        raise UserError(f"no such history: {history!r}; expected one of {', '.join(HISTORIES)}")
    weights = {name: p.detach().clone() for name, p in crowd.named_parameters()}
    opt = trained.optimizer
    before_all = copy.deepcopy(opt.state_dict())
    start = copy.deepcopy(before_all) | ({"state": {}} if history == "fresh" else {})
    for group in start["param_groups"]:
        group["lr"] *= factor
        if history == "no momentum" and "betas" in group:
            group["betas"] = (0.0, group["betas"][1])
    states = dict.fromkeys(kinds, start)
    order = Order(len(task.train_x), batch, crowd.seeds)
    found: dict[str, list[Tensor]] = {name: [] for name in (*kinds, "before", "mean", "var", "useful")}
    for number in range(batches):
        rows = order.rows(number)
        x, y = task.train_x[rows], task.train_y[rows]  # (S, B, d), (S, B, H)
        with torch.no_grad():
            z = crowd.values(x)  # (S, B, N)
            mask = select(Method("reverse"), network_phi(z, mean, var))
        neuron = mask.double().argmax(-1)  # (S, B)
        found["before"].append(_of(z, neuron))
        found["mean"].append(mean.gather(1, neuron))
        found["var"].append(var.gather(1, neuron))
        found["useful"].append(usefulness(crowd, task, z, y, mean, mask, neuron) > 0)
        for name, method in kinds.items():
            opt.load_state_dict(copy.deepcopy(states[name]))  # load_state_dict alone shares the tensors
            opt.zero_grad()
            z = crowd.values(x)
            seen, penalty = inhibit(method, z, mean, var, mask)
            (losses(crowd.outputs(seen), y, task.heads).sum() + penalty).backward()
            opt.step()
            if history == "own":
                states[name] = opt.state_dict()
            with torch.no_grad():
                found[name].append(_of(crowd.values(x), neuron))
                for key, p in crowd.named_parameters():
                    p.copy_(weights[key])
    opt.load_state_dict(before_all)
    stacked = {name: torch.stack(parts, 1) for name, parts in found.items()}  # (S, T, B)
    before, mean_of, var_of, useful = (stacked.pop(name) for name in ("before", "mean", "var", "useful"))
    return Updates(before, stacked, mean_of, var_of, useful)


def usefulness(crowd, task: Task, z: Tensor, y: Tensor, mean: Tensor, mask: Tensor, neuron: Tensor) -> Tensor:
    """(S, B): ``-(z - mean) dL/dz`` at the mean: above 0 where the loss wants the value back, as Lemma 3.3 assumes."""
    seen = torch.where(mask, mean[:, None], z).detach().requires_grad_()
    (slope,) = torch.autograd.grad(losses(crowd.outputs(seen), y, task.heads).sum(), seen)
    return -(_of(z, neuron) - mean.gather(1, neuron)) * _of(slope, neuron)


def _of(values: Tensor, neuron: Tensor) -> Tensor:
    """(S, B) values of one neuron an input, from (S, B, N)."""
    return values.gather(-1, neuron[..., None])[..., 0]
