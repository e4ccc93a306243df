"""The numbers of one model on one dataset: W25 section 3 and W24's slides, from what two passes kept.

Logarithms where a claim speaks of ratios; every null beside its measure.
"""

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab.probing import best_of, null_neurons
from l2e_min.lab.study.dataset import Observed

N_BEST = 10  # W25 looks at the top 10 of a scale

DEPTHS = ("early", "middle", "late")


def measures(seen: Observed, *, seed: int = 0) -> dict:
    """Plain JSON: numbers, and lists by layer or by level. What each is stands in ``EXPLAINED``."""
    first, star = seen.first, seen.star
    on, off = first.on_and_off(star)  # (N,)
    table = best_of(seen.probes, N_BEST)
    best = torch.from_numpy(table.neuron)
    gap = best_gap(seen, best, torch.from_numpy(table.feature))
    ks, ks_null = seen.ks(), seen.ks(null=True)
    low, high = resampled_mean(ks, seed)
    by_layer = on.masked_fill(~first.alive, torch.nan).unflatten(0, (seen.layers, seen.neurons))
    return {
        "layers": seen.layers,
        "neurons": seen.neurons,
        "dead": int((~first.alive).sum()),
        "f1": float(table.f1.mean()),
        "f1_best": float(table.f1[0]),
        "f1_null": float(null_neurons(seen.some_values.numpy(), seen.data.labels, N_BEST, seed).f1.mean()),
        "phi_on_best": on[best].mean().item(),
        "phi_off_best": off[best].mean().item(),
        "phi_on": on[first.alive].mean().item(),
        "phi_off": off[first.alive].mean().item(),
        "phi_on_null": null_phi(seen).item(),
        "phi_on_by_layer": by_layer.nanmean(1).tolist(),
        "log_phi_on_by_depth": by_depth(by_layer),
        "gap": gap[0].item(),
        "gap_standardized": gap[1].item(),
        "ks": ks.mean().item(),
        "ks_low": low,
        "ks_high": high,
        "ks_null": ks_null.mean().item(),
        "ks_by_layer": [ks[seen.layer_of(seen.some) == layer].mean().item() for layer in range(seen.layers)],
        "fkr": seen.levels.fkr().tolist(),
        "fkr_null": seen.null_levels.fkr().mean(1).tolist(),
    }


EXPLAINED = {
    "f1": "mean held-out F1 of the ten neurons that a sparse probe finds best",
    "f1_best": "held-out F1 of the first of them",
    "f1_null": "f1 with permuted labels, ten best of the random neurons",
    "phi_on_best": "held-out phi on l*, mean of the ten best-probed neurons",
    "phi_off_best": "their held-out phi on all other features",
    "phi_on": "held-out phi on l*, mean of all neurons",
    "phi_off": "their held-out phi on all other features",
    "phi_on_null": "phi_on with permuted labels (random neurons)",
    "gap": "mean value on the feature minus off it, size, mean of the ten best-probed neurons, held out",
    "gap_standardized": "the same in standard deviations of the neuron",
    "ks": "held-out K-S statistic of phi on l* against phi on all rows, mean of the random neurons",
    "ks_low": "lower end of its 95 % bootstrap interval over neurons",
    "ks_high": "upper end",
    "ks_null": "ks with permuted labels",
}
"""The single numbers among the measures, in words."""


def best_gap(seen: Observed, best: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
    """(), (): W24's activation gap of some neurons, each on its probed feature; raw and in standard deviations."""
    star = seen.star.clone()
    star[best] = feature
    gap = seen.first.gap(star)[best].abs()
    return gap.mean(), (gap / seen.first.s2[best].sqrt()).mean()


def null_phi(seen: Observed) -> Tensor:
    """(): mean phi on l* of the random neurons where the held-out labels are shuffled."""
    phi = seen.some_phi()[seen.held]  # (n2, K)
    own = seen.shuffled[seen.held, None] == seen.star[seen.some]
    return (torch.where(own, phi, 0).sum(0) / own.sum(0)).mean()


def by_depth(by_layer: Tensor) -> dict[str, float]:
    """Log of the mean of (layers, neurons) in each third of the depth that has a layer, by the layer's middle (C05).

    NaN among the values are left out.
    """
    layers = len(by_layer)
    third = ((torch.arange(layers) + 0.5) / layers * 3).long()  # (layers,)
    present = third.unique().tolist()
    return {DEPTHS[t]: by_layer[third == t].nanmean().log().item() for t in present}


def resampled_mean(values: Tensor, seed: int, n: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of a mean over neurons."""
    rng = np.random.default_rng([seed, 3])
    x = values.numpy()
    draws = [rng.choice(x, len(x)).mean() for _ in range(n)]
    return tuple(np.quantile(draws, [0.025, 0.975]).tolist())
