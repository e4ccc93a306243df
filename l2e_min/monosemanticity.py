"""The Monosemantic Scale and what is read off it (W25 equations 1 to 4).

``phi`` is always (n, N): n inputs, N neurons. ``labels`` is (n,): one feature, a whole number from 0, for every input.
"""

import torch
from torch import Tensor


def monosemantic_scale(z: Tensor, mean: Tensor, var: Tensor, floor: float = 0.0) -> Tensor:
    """Monosemantic Scale: how far each value lies from its neuron's mean, squared, in variances (W25 eq. 1, W24 phi).

    Args:
        z: (..., N) values of N neurons.
        mean: (N,) mean of the values seen before ``z``.
        var: (N,) their sample variance.
        floor: eps of W24 Algorithm 2. ``eps`` times the layer's mean variance is added to every variance, so that a
            nearly constant neuron cannot blow phi up. The authors' code uses 0.01. 0: equation 1 as it stands.

    Returns:
        phi, same shape as ``z``, without unit. A constant neuron (variance 0, no floor) has phi 0 at its constant and
        infinity elsewhere. Computed in the moments' dtype, so half-precision activations lose nothing.
    """
    if mean.shape != var.shape or mean.ndim != 1 or z.ndim < 1 or z.shape[-1] != mean.shape[0]:
        raise ValueError(
            f"got values {tuple(z.shape)}, mean {tuple(mean.shape)}, variance {tuple(var.shape)}; "
            "expected (..., N), (N,) and (N,)"
        )
    deviation = z.to(torch.promote_types(z.dtype, mean.dtype)) - mean  # (..., N)
    kind = torch.finfo(deviation.dtype)
    # The smallest number there is stands for a variance of 0: 0 over it is 0 and anything else overflows to infinity.
    scale = denominator(var, floor).to(deviation.dtype).clamp_min(kind.smallest_normal * kind.eps)  # (N,)
    if torch.is_grad_enabled() and deviation.requires_grad:
        return deviation.square() / scale  # W25 eq. 1
    return deviation.square_().div_(scale)  # the same in place: a fresh array costs more than the arithmetic


def denominator(var: Tensor, floor: float) -> Tensor:
    """(N,) ``v_i + eps * mean_k(v_k)``: the denominator of phi in W24 Algorithm 2."""
    if not floor >= 0:
        raise ValueError(f"floor is {floor}; expected a number of at least 0")
    return var + floor * var.mean() if floor else var


def _one_hot(phi: Tensor, labels: Tensor, n_features: int | None = None) -> Tensor:
    """(n, L) of zeros and ones, after checking that the labels fit phi."""
    if phi.ndim != 2:
        raise ValueError(f"phi has shape {tuple(phi.shape)}; expected (inputs, neurons)")
    labels = torch.as_tensor(labels, device=phi.device)
    if labels.shape != (phi.shape[0],):
        raise ValueError(
            f"got labels of shape {tuple(labels.shape)} for {phi.shape[0]} inputs; expected one label per input"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"the labels are {labels.dtype}; expected whole numbers from 0")
    if len(labels) == 0:
        raise ValueError("there are no inputs; a mean over a feature needs at least one")
    low, high = int(labels.min()), int(labels.max())
    n_features = high + 1 if n_features is None else n_features
    if low < 0 or high >= n_features:
        raise ValueError(f"the labels run from {low} to {high}; expected 0 to {n_features - 1}")
    return torch.nn.functional.one_hot(labels.long(), n_features).to(phi.dtype)


def feature_scores(phi: Tensor, labels: Tensor, n_features: int | None = None) -> Tensor:
    """(L, N): ``phi_l``, the mean phi of each neuron over the inputs of each feature (W25 eq. 2).

    A feature without inputs gets NaN. ``n_features``: L; default one more than the largest label.
    """
    members = _one_hot(phi, labels, n_features)  # (n, L)
    return (members.T @ phi) / members.sum(0)[:, None]  # (L, N) / (L, 1)


def relative_feature(phi: Tensor, labels: Tensor) -> Tensor:
    """(N,) ``l*``: the feature with the highest mean phi, each neuron's relatively monosemantic feature (W25 eq. 3)."""
    return feature_scores(phi, labels).nan_to_num(nan=-torch.inf, posinf=torch.inf).argmax(0)


def ks_statistic(phi: Tensor, labels: Tensor, star: Tensor | None = None) -> Tensor:
    """(N,): two-sample Kolmogorov-Smirnov statistic of phi on ``l*`` against phi on all inputs (W25 section 3).

    The largest gap between the two empirical distribution functions, between 0 and 1. Smaller means that the special
    feature stands out less. Where ``l*`` is chosen on the same inputs, as here by default, compare with a
    label-permutation null; ``star`` (N,) gives an ``l*`` that was chosen elsewhere. NaN where no input has it.
    """
    star = _checked_star(phi, labels, star)  # (N,)
    labels = torch.as_tensor(labels, device=phi.device)
    values, order = phi.sort(dim=0)  # (n, N)
    on_star = (labels[order] == star).to(phi.dtype)  # (n, N)
    n = phi.shape[0]
    everything = torch.arange(1, n + 1, dtype=phi.dtype, device=phi.device)[:, None] / n  # (n, 1)
    gap = (on_star.cumsum(0) / on_star.sum(0) - everything).abs()  # (n, N)
    # Within a run of equal values the distribution functions are defined only at the run's last place.
    last_of_run = torch.ones_like(values, dtype=torch.bool)
    last_of_run[:-1] = values[1:] != values[:-1]
    return torch.where(last_of_run, gap, 0).amax(0)


def false_killing_rate(phi: Tensor, labels: Tensor, share: float = 0.02, star: Tensor | None = None) -> float:
    """False Killing Rate: of the pairs that a level k inhibits, the share outside their neuron's ``l*`` (W25 eq. 4).

    Args:
        phi: (n, N), one layer.
        labels: (n,).
        share: k as a share of all ``n * N`` pairs, in (0, 1]. Ties at the threshold are all inhibited.
        star: (N,) an ``l*`` that was chosen on other inputs; default: chosen on these.

    Returns:
        A number in [0, 1]; NaN where ``share`` is less than one pair, so nothing is inhibited.
    """
    share = checked_share(share)
    off_star = torch.as_tensor(labels, device=phi.device)[:, None] != _checked_star(phi, labels, star)  # (n, N)
    k = pairs_in_share(share, phi.numel())
    if k == 0:
        return float("nan")
    tau = phi.flatten().kthvalue(phi.numel() - k + 1).values  # the k-th largest
    selected = phi >= tau
    return int((selected & off_star).sum()) / int(selected.sum())  # W25 eq. 4


def _checked_star(phi: Tensor, labels: Tensor, star: Tensor | None) -> Tensor:
    """(N,) ``star``, or the ``l*`` of these inputs; labels are checked either way."""
    if star is None:
        return relative_feature(phi, labels)
    _one_hot(phi[:, :0], labels)  # raises what is wrong with the labels
    star = torch.as_tensor(star, device=phi.device)
    if star.shape != phi.shape[1:]:
        raise ValueError(f"got {tuple(star.shape)} features for {phi.shape[1]} neurons; expected one l* per neuron")
    return star


def checked_share(share: float) -> float:
    """``share``, or a ValueError where it is not in (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; expected a part of all pairs, above 0 and at most 1 (0.02 is 2 %)")
    return float(share)


def pairs_in_share(share: float, n_pairs: int) -> int:
    """How many of ``n_pairs`` a share selects: rounded down, but not by a floating-point hair."""
    return int(share * n_pairs * (1 + 1e-12))
