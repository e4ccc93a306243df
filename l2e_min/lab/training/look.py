"""What the neurons at some sites do on held-out text, with moments taken afresh from that text."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from l2e_min import RunningMoments, monosemantic_scale
from l2e_min.fresh import ROUNDING
from l2e_min.lab.measure import watching
from l2e_min.lab.training.objective import token_loss
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.sites import Site


@torch.no_grad()
def look(
    model: nn.Module,
    held_out: tuple[Tensor, Tensor],
    settings: PretrainSettings,
    sites: Sequence[Site],
    cumulative: Sequence[RunningMoments] = (),
) -> dict[str, float]:
    """Numbers of the neurons at ``sites`` on ``held_out``: inputs and targets (rows, context) each.

    ``loss``: nats a token. ``log_kurtosis``: log of the mean of phi^2 over all pairs. ``log_top_ms``: log of the mean
    over tokens and sites of the site's largest phi. ``log_variance``: log of the median S^2. ``constant``: share of
    neurons that are constant up to rounding; they have no phi and are left out of it. NaN where all are constant; a
    site where all are counts as 0 in the mean of ``log_top_ms``.
    ``cumulative``: moments for each site, gathered before; with them ``log_top_ms_cumulative`` and
    ``log_kurtosis_cumulative`` say the same of phi against those (B05).
    """
    z: dict[int, Tensor] = {}
    training = model.training
    model.eval()
    with watching(sites, lambda number, values: z.__setitem__(number, values.double().flatten(0, 1))):
        loss = token_loss(model, *held_out, settings).item()
    model.train(training)
    fresh = [Phi(values, values.mean(0), values.var(0)) for _, values in sorted(z.items())]
    found = {"loss": loss, "log_kurtosis": log_kurtosis(fresh), "log_top_ms": log_top_ms(fresh)}
    found["log_variance"] = torch.cat([site.var for site in fresh]).median().clamp_min(1e-45).log().item()
    found["constant"] = 1 - torch.cat([site.moving for site in fresh]).double().mean().item()
    if cumulative:
        old = [Phi(z[i], moments.mean.double(), moments.var.double()) for i, moments in enumerate(cumulative)]
        found |= {"log_kurtosis_cumulative": log_kurtosis(old), "log_top_ms_cumulative": log_top_ms(old)}
    return found


class Phi:
    """MS of a site's values (tokens, N) by the moments (N,); 0 for neurons that are constant up to rounding."""

    def __init__(self, values: Tensor, mean: Tensor, var: Tensor):
        self.var = var
        self.moving = var > (ROUNDING * mean.abs()).square()  # (N,)
        phi = monosemantic_scale(values, mean, torch.where(self.moving, var, 1))
        self.phi = torch.where(self.moving, phi, 0)  # (tokens, N)


def log_kurtosis(sites: Sequence[Phi]) -> float:
    """Log of the mean phi^2 over the pairs of all sites; NaN where no neuron varies."""
    pairs = sum(site.moving.sum() * len(site.phi) for site in sites)
    return (sum(site.phi.square().sum() for site in sites) / pairs).log().item() if pairs else math.nan


def log_top_ms(sites: Sequence[Phi]) -> float:
    """Log of the mean, over tokens and sites, of the largest phi of a site; NaN where no neuron varies."""
    top = torch.stack([site.phi.amax(1).mean() for site in sites]).mean()
    return top.log().item() if top > 0 else math.nan


@torch.no_grad()
def mean_cost(
    model: nn.Module, held_out: tuple[Tensor, Tensor], settings: PretrainSettings, sites: Sequence[Site]
) -> float:
    """How much the held-out loss rises, in nats a token, when the MLPs of ``sites`` give their mean on every token."""
    training = model.training
    model.eval()
    before = token_loss(model, *held_out, settings).item()
    # A site is an MLP's second linear layer, so its output is the MLP's.
    hook = lambda _module, _inputs, output: output.mean((0, 1), keepdim=True).expand_as(output)  # noqa: E731
    handles = [site.module.register_forward_hook(hook) for site in sites]
    try:
        return token_loss(model, *held_out, settings).item() - before
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
