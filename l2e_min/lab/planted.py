"""Activations whose truth is known: every measure is tested against them before it is believed on a network.

Synthetic on purpose. Kinds of neurons:

- ``monosemantic``: fires on one feature, ``height`` standard deviations of its noise high, and is noise elsewhere.
- ``polysemantic``: fires on several features (half of them), at the same height.
- ``noise``: answers to nothing.
- ``dead``: one constant.
- ``spike``: silent but for rare large spikes that have nothing to do with any feature.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("monosemantic", "polysemantic", "noise", "dead", "spike")


@dataclass(frozen=True)
class Planted:
    """Planted activations and their truth."""

    z: Tensor
    """(n, N) float64 values, neurons ordered by kind."""
    labels: Tensor
    """(n,) int64 feature of each input."""
    kinds: list[str]
    """N kinds, one a neuron."""
    own_feature: Tensor
    """(N,) int64 the feature a monosemantic neuron answers to; -1 for every other kind."""

    def where(self, kind: str) -> Tensor:
        """(N,) boolean: the neurons of that kind."""
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
        return torch.tensor([k == kind for k in self.kinds])


def plant(
    n_inputs: int = 2000,
    n_features: int = 10,
    per_kind: int = 20,
    height: float = 6.0,
    spike_share: float = 0.005,
    seed: int = 0,
) -> Planted:
    """Draws planted activations.

    Args:
        n_inputs: n; every feature gets ``n_inputs / n_features`` of them, in random order.
        n_features: L, at least 2.
        per_kind: neurons of each kind; N is five times that.
        height: of an answer, in standard deviations of the noise.
        spike_share: part of the inputs on which a spike neuron spikes.
        seed: same seed, same draw.
    """
    if n_features < 2 or n_inputs < 2 * n_features:
        raise ValueError(
            f"got {n_inputs} inputs of {n_features} features; expected at least 2 features of 2 inputs each"
        )
    g = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n_inputs) % n_features)[torch.randperm(n_inputs, generator=g)]  # (n,)
    on = torch.nn.functional.one_hot(labels, n_features).double()  # (n, L)
    noise = torch.randn(n_inputs, 3 * per_kind, generator=g, dtype=torch.float64)  # (n, 3 kinds)
    own = torch.arange(per_kind) % n_features  # (per_kind,)
    answers_mono = torch.nn.functional.one_hot(own, n_features).double()  # (per_kind, L)
    answers_poly = torch.zeros(per_kind, n_features, dtype=torch.float64)
    for row in answers_poly:
        row[torch.randperm(n_features, generator=g)[: max(2, n_features // 2)]] = 1
    mono = noise[:, :per_kind] + height * on @ answers_mono.T
    poly = noise[:, per_kind : 2 * per_kind] + height * on @ answers_poly.T
    dead = torch.full((n_inputs, per_kind), 0.25, dtype=torch.float64)
    spikes = torch.rand(n_inputs, per_kind, generator=g, dtype=torch.float64) < spike_share
    spike = 0.1 * torch.randn(n_inputs, per_kind, generator=g, dtype=torch.float64) + 10 * spikes
    own_feature = torch.cat([own, torch.full((4 * per_kind,), -1)])
    z = torch.cat([mono, poly, noise[:, 2 * per_kind :], dead, spike], dim=1)  # (n, N)
    return Planted(z, labels, [kind for kind in KINDS for _ in range(per_kind)], own_feature)
