"""Every kind of inhibition for a crowd, and its controls, under one name each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from l2e_min import RunningMoments, TopK, deactivate, monosemantic_scale, ms_penalty
from l2e_min.inhibition import PENALTY_FORMS
from l2e_min.inhibitor import STRENGTHS
from l2e_min.lab.errors import UserError

FLOOR = 0.01  # eps of W24 Algorithm 2, as in the authors' code


@dataclass(frozen=True)
class Method:
    """What happens to the selected hidden values of a training batch."""

    kind: str = "plain"
    """"plain"; "reverse", "freeze", "straight_through" (W24); "ms", "log_ms", "invariant_log_ms" (W25)."""
    strength: float = 1.0
    """Multiplies D of a deactivating kind; lambda of a penalty."""
    k: int | None = 1
    """Pairs selected in each input (W24's MEmeL: 1)."""
    share: float | None = None
    """Instead: that share of a network's pairs in the batch."""
    random: bool = False
    """Control: as many pairs drawn at random."""

    def __post_init__(self):
        known = ("plain", *STRENGTHS, *PENALTY_FORMS)
        if self.kind not in known:
            raise UserError(f"no such kind of inhibition: {self.kind!r}; expected one of {', '.join(known)}")
        if self.k is None and self.share is None:
            raise UserError("a method needs k (pairs an input) or share (of all pairs)")


def select(method: Method, phi: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Boolean mask in the shape of phi (S, B, N): every network selects equally many pairs of its own."""
    if method.random:
        phi = torch.rand(phi.shape, generator=generator, dtype=phi.dtype)
    if method.share is None:
        return TopK(k=method.k)(phi.flatten(0, 1)).view_as(phi)  # a row is one input of one network
    return TopK(k=max(1, round(method.share * phi[0].numel())))(phi)  # a row is one network's batch


def network_phi(z: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """phi (S, B, N) of values by moments (S, N), with W24's floor taken from each network's own layer."""
    flat = z.transpose(0, 1).flatten(1)  # (B, S N)
    scale = (var + FLOOR * var.mean(1, keepdim=True)).flatten()
    phi = monosemantic_scale(flat, mean.flatten(), scale)
    return phi.unflatten(1, mean.shape).transpose(0, 1)


def inhibit(method: Method, z: Tensor, mean: Tensor, var: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | float]:
    """The values that the next layer sees (S, B, N), and the penalty summed over the networks (0 for the others).

    z: (S, B, N) with gradient; mean, var: (S, N) constants; mask: (S, B, N), equally many true in every network.
    """
    if method.kind == "plain":
        return z, 0.0
    flat, chosen = z.transpose(0, 1).flatten(1), mask.transpose(0, 1).flatten(1)  # (B, S N): the package's layout
    if method.kind in STRENGTHS:
        strength = STRENGTHS[method.kind] * method.strength
        flat = deactivate(flat, mean.flatten(), chosen, strength)
        return flat.unflatten(1, mean.shape).transpose(0, 1), 0.0
    # The mean over all pairs times S is the sum of the networks' own means, as all select equally many.
    penalty = ms_penalty(flat, mean.flatten(), var.flatten(), chosen, method.kind)
    return z, method.strength * len(z) * penalty


class CrowdMoments:
    """Running moments of every network's neurons, (S, N) each, forgetting as the package's Inhibitor does."""

    def __init__(self, n_networks: int, hidden: int, forget_after: int | None = 10):
        self.shape = (n_networks, hidden)
        self.running = RunningMoments(n_networks * hidden, forget_after, dtype=torch.float64)

    def update(self, z: Tensor) -> None:
        """Takes in values (S, B, N)."""
        self.running.update(z.transpose(0, 1).flatten(1))

    @property
    def batches(self) -> int:
        return int(self.running.batches)

    @property
    def mean(self) -> Tensor:
        return self.running.mean.view(self.shape)

    @property
    def var(self) -> Tensor:
        return self.running.var.view(self.shape)
