"""What a run says of its neurons on a line of the log: a small look at the model, and the inhibitor's own numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from l2e_min import Inhibitor
from l2e_min.lab.measure import watching
from l2e_min.lab.training.devices import Devices
from l2e_min.lab.training.look import Phi
from l2e_min.sites import Site

LOOKED_AT = 512
"""Tokens of a look: a moment beside the 25 steps of a line of the log, and enough for a median over neurons."""


@torch.no_grad()
def look_inside(
    devices: Devices, model: nn.Module, inputs: Tensor, targets: Tensor, sites: Sequence[Site]
) -> dict[str, float]:
    """MS and S^2 of the neurons at ``sites`` on the first rows of a batch (rows, context), as numbers.

    ``top_ms``: mean over tokens and layers of the layer's largest phi. ``median_variance``: median S^2 of the neurons,
    in squared units of the activations. The moments are those of these tokens alone, so that every method, plain
    training too, is judged alike; phi is then at most (n - 1)^2 / n for n tokens. Nothing is inhibited meanwhile.
    """
    rows = max(1, LOOKED_AT // inputs.shape[1])
    z: dict[int, Tensor] = {}
    model.eval()
    with watching(sites, lambda number, values: z.__setitem__(number, values.double().flatten(0, 1))):
        devices.loss(model, inputs[:rows].to(devices.device), targets[:rows].to(devices.device))
    model.train()
    tops, variances = [], []
    for values in z.values():  # (tokens, N)
        site = Phi(values, values.mean(0), values.var(0))
        tops.append(site.phi.amax(1).mean())
        variances.append(site.var)
    return {"top_ms": torch.stack(tops).mean().item(), "median_variance": torch.cat(variances).median().item()}


def inhibitor_numbers(extras: Sequence[object]) -> dict[str, float]:
    """Means over the layers of the inhibitor's threshold and of the share it selected last; empty without inhibitor."""
    rows = [row for extra in extras if isinstance(extra, Inhibitor) for row in extra.report().rows]
    if not rows:
        return {}
    numbers = {"threshold": "tau", "share_selected": "share"}
    means = {name: sum(row[key] for row in rows) / len(rows) for name, key in numbers.items()}
    return {name: value for name, value in means.items() if math.isfinite(value)}  # top-k has no threshold
