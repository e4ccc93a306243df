"""MS at an inhibitor's sites on a batch to look at, by that batch's own moments.

The running moments lag behind a training model: where activations shrink from batch to batch, MS by the old, larger
variance falls by that alone [this book]. Moments taken from the batch itself cannot be fooled so.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from l2e_min.monosemanticity import monosemantic_scale
from l2e_min.sites import Site

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""A neuron whose standard deviation is less than this share of its mean is constant up to rounding; it has no phi."""


@torch.no_grad()
def fresh_ms(
    model: nn.Module, sites: Sequence[Site], neuron_axes: int, inputs: Sequence, named: Mapping
) -> dict[str, dict[str, float]]:
    """``top`` and ``kurtosis`` (see :class:`l2e_min.report.Report`) of every site on ``model(*inputs, **named)``.

    One forward pass in evaluation mode, after which every module has the mode that it had. Sites that the pass does not
    reach are left out. Give the same batch each time: the largest phi of n inputs is at most (n - 1)^2 / n.
    """
    values: dict[str, list[Tensor]] = {}

    def keep(site: Site, z) -> None:
        z = z[0] if isinstance(z, tuple) else z
        z = z.flatten(-neuron_axes) if neuron_axes > 1 else z
        kind = torch.promote_types(z.dtype, torch.float32)
        values.setdefault(site.name, []).append(z.reshape(-1, z.shape[-1]).to(kind))  # (inputs, N)

    modes = [(module, module.training) for module in model.modules()]
    handles = [
        site.module.register_forward_pre_hook(lambda _m, inputs, site=site: keep(site, inputs))
        if site.side == "input"
        else site.module.register_forward_hook(lambda _m, _i, output, site=site: keep(site, output))
        for site in sites
    ]
    model.eval()  # in which an inhibitor rests
    try:
        model(*inputs, **named)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return {name: ms_of(torch.cat(parts)) for name, parts in values.items()}


def ms_of(z: Tensor) -> dict[str, float]:
    """``top`` and ``kurtosis`` of values (n, N); NaN where every neuron is constant up to rounding."""
    mean, var = z.mean(0), z.var(0)  # (N,)
    moving = var > (ROUNDING * mean.abs()).square()
    if not moving.any():
        return {"top": float("nan"), "kurtosis": float("nan")}
    phi = monosemantic_scale(z[:, moving], mean[moving], var[moving])  # (n, neurons that move)
    return {"top": float(phi.amax(1).mean()), "kurtosis": float(phi.square().mean())}
