"""Networks with one hidden layer, many of them side by side: ten seeds train in the time of one."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2e_min.lab.errors import UserError

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "linear": lambda a: a}  # linear: a control


class Crowd(nn.Module):
    """S independent networks ``W2 act(W1 x + b1) + b2``, one a seed; a network does not depend on who is beside it.

    Weights are drawn as ``nn.Linear`` draws them. A loss summed over the networks gives each the gradient it would
    have alone, and SGD and Adam go weight by weight, so training the crowd is training each.

    Args:
        inputs, hidden, outputs: d, N, O.
        seeds: one a network.
        activation: "gelu", "relu" or, as a control, "linear".
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, seeds: Sequence[int], activation: str = "gelu"):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(f"no such activation: {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
        if not len(seeds):
            raise UserError("a crowd needs at least one seed")
        self.hidden, self.activation, self.seeds = hidden, activation, tuple(seeds)
        drawn = [_draw(inputs, hidden, outputs, seed) for seed in seeds]
        self.w1, self.b1, self.w2, self.b2 = (nn.Parameter(torch.stack(part)) for part in zip(*drawn, strict=True))

    def values(self, x: Tensor) -> Tensor:
        """Hidden values (S, B, N) of inputs (S, B, d) or, the same for all networks, (B, d)."""
        if x.ndim == 2:
            x = x.expand(len(self.seeds), *x.shape)
        return ACTIVATIONS[self.activation](torch.baddbmm(self.b1[:, None], x, self.w1))

    def outputs(self, z: Tensor) -> Tensor:
        """Logits (S, B, O) from hidden values (S, B, N)."""
        return torch.baddbmm(self.b2[:, None], z, self.w2)

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(self.values(x))


def _draw(inputs: int, hidden: int, outputs: int, seed: int) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)

    def uniform(fan_in: int, *shape: int) -> Tensor:
        return (2 * torch.rand(shape, generator=g, dtype=torch.float64) - 1) / math.sqrt(fan_in)

    return (
        uniform(inputs, inputs, hidden),
        uniform(inputs, hidden),
        uniform(hidden, hidden, outputs),
        uniform(hidden, outputs),
    )


def losses(logits: Tensor, y: Tensor, heads: Sequence[int]) -> Tensor:
    """(S,) mean cross-entropy in nats of each network, summed over the questions.

    logits: (S, B, O), the answers of all questions in a row; y: (S, B, H) or, the same for all, (B, H).
    """
    y = y.expand(len(logits), *y.shape[-2:])  # (S, B, H)
    total = torch.zeros(len(logits), dtype=logits.dtype)
    for number, part in enumerate(logits.split(list(heads), dim=-1)):
        each = F.cross_entropy(part.flatten(0, 1), y[..., number].flatten(), reduction="none")
        total = total + each.view(len(logits), -1).mean(1)
    return total


@torch.no_grad()
def accuracy(crowd: Crowd, x: Tensor, y: Tensor, heads: Sequence[int]) -> Tensor:
    """(S,) share of right answers over all inputs and questions."""
    parts = crowd(x).split(list(heads), dim=-1)
    right = [part.argmax(-1) == y[:, number] for number, part in enumerate(parts)]  # (S, B) each
    return torch.stack(right).double().mean((0, 2))
