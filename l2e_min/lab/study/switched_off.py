"""What a model loses without its monosemantic neurons, and without as many others (W24's slides, claim C06)."""

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab.study.ablation import rises, text_losses
from l2e_min.lab.study.dataset import Observed
from l2e_min.lab.study.first_pass import HELD

OFF = 10
"""Neurons switched off together for each feature: the size of W25's top 10."""

RANDOM_DRAWS = 3


def switched_off(
    model,
    tokenizer,
    seen: Observed,
    *,
    at: Tensor | None = None,
    seed: int = 0,
    matrix: bool = True,
    batch_size: int = 64,
    progress: bool = False,
) -> dict:
    """Plain JSON of lists over features, in nats per token on held-out rows.

    ``loss`` as it is; ``rise`` with the feature's ten best-probed neurons held at their mean; ``rise_random`` with ten
    random ones (mean of three draws), ``rise_lowest`` with the ten of lowest phi on the feature. ``matrix``: also
    ``rise_matrix`` (L, L), row g: the neurons of feature g off, the loss on every feature. ``at``: (N,) what neurons
    are held at, if not at the mean of the observed values: needed where these are no means over tokens.
    """
    at = seen.first.mu if at is None else at
    rows = seen.held.nonzero()[:, 0].tolist()
    texts, labels = [seen.data.texts[i] for i in rows], seen.labels[seen.held]
    baseline = text_losses(model, tokenizer, texts, batch_size=batch_size)
    n_features = len(seen.data.features)

    def rise(groups: Tensor, only_own: bool = True) -> Tensor:
        """groups: (L, OFF) neurons by their numbers through all layers."""
        pairs = torch.stack([groups // seen.neurons, groups % seen.neurons], -1)  # (L, OFF, 2)
        return rises(
            model, tokenizer, texts, labels, list(pairs), list(at[groups]),
            baseline=baseline, only_own=only_own, batch_size=batch_size, progress=progress,
        )  # fmt: skip

    rng = np.random.default_rng([seed, 4])
    alive = seen.first.alive.nonzero()[:, 0].numpy()
    draws = [
        torch.from_numpy(np.stack([rng.choice(alive, min(OFF, len(alive)), replace=False) for _ in range(n_features)]))
        for _ in range(RANDOM_DRAWS)
    ]
    found = rise(best_by_feature(seen), only_own=not matrix)  # (L, L) or (L,)
    losses, tokens = (torch.zeros(n_features).double().index_add_(0, labels, x.double()) for x in baseline)
    return {
        "loss": (losses / tokens).tolist(),
        "rise": (found.diagonal() if matrix else found).tolist(),
        "rise_random": torch.stack([rise(groups) for groups in draws]).mean(0).tolist(),
        "rise_lowest": rise(lowest_phi(seen)).tolist(),
        **({"rise_matrix": found.tolist()} if matrix else {}),
    }


def best_by_feature(seen: Observed) -> Tensor:
    """(L, OFF): each feature's best-probed neurons, by the training F1."""
    table = seen.probes
    return torch.stack(
        [torch.from_numpy(table.neuron[table.feature == feature][:OFF]) for feature in range(len(seen.data.features))]
    )


def lowest_phi(seen: Observed) -> Tensor:
    """(L, OFF): for each feature the neurons with the lowest held-out phi on it; constant ones are left out."""
    scores = seen.first.scores(HELD).masked_fill(~seen.first.alive, torch.inf)  # (L, N)
    return scores.topk(min(OFF, int(seen.first.alive.sum())), dim=1, largest=False).indices
