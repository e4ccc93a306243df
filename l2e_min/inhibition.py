"""What happens to a selected value: replaced by its mean, or penalised.

``mask`` says which (input, neuron) pairs are selected. Unselected values and their gradients stay untouched. ``mean``
and ``var`` are constants in every gradient, apart from the one form that says otherwise.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PENALTY_FORMS = ("ms", "log_ms", "invariant_log_ms")


def deactivate(z: Tensor, mean: Tensor, mask: Tensor, strength: float = 1.0) -> Tensor:
    """Replaces selected values by their neuron's mean and decides what gradient they send back (W24 eq. 10-13, E.3).

    ``z' = -D z + sg(mean + D z)`` with D the strength: the value is the mean whatever D is, the gradient to z is -D
    times the gradient that arrives.

    Args:
        z: (..., N) values.
        mean: (N,) running mean.
        mask: (..., N) boolean, the selected pairs.
        strength: D. 1: Reverse Deactivation (eq. 13); 0: naive (a), the gradient is cut (eq. 10); -1: naive (b), the
            gradient passes as if nothing had happened (eq. 11); above 1: a stronger reversal (MEmeL-Tune).

    Returns:
        Values in the shape and dtype of ``z``.
    """
    _check(z, mean, mask)
    # -D z + sg(mean + D z), grouped as sg(mean) - D (z - sg(z)): the bracket is exactly 0 forward, so the value is the
    # mean to the last bit in any precision.
    replaced = mean.detach().to(z.dtype) - strength * (z - z.detach())  # W24 E.3
    return torch.where(mask, replaced, z)


def ms_penalty(z: Tensor, mean: Tensor, var: Tensor, mask: Tensor, form: str = "log_ms") -> Tensor:
    """Mean over the selected pairs of a penalty on their Monosemantic Scale (W25 section 4.3, eq. 5).

    Args:
        z: (..., N) values with gradient.
        mean, var: (N,) running moments, constants here.
        mask: (..., N) boolean, the selected pairs.
        form: ``"ms"``: phi itself, whose gradient ``2 (z - mean) / var`` is huge for a tiny variance.
            ``"log_ms"``: ``log (z - mean)^2``, W25 eq. 5: the variance drops out as a constant.
            ``"invariant_log_ms"``: ``log`` of phi with the batch's own variance, which carries gradient, so that
            shrinking all activations alike gains nothing [this book].

    Returns:
        Scalar in the moments' dtype; 0 with gradient 0 where nothing is selected. A mean and not a sum [our choice], so
        that its weight does not depend on the batch size.
    """
    if form not in PENALTY_FORMS:
        raise ValueError(f"form is {form!r}; expected one of {', '.join(PENALTY_FORMS)}")
    _check(z, mean, mask)
    kind = torch.promote_types(z.dtype, mean.dtype)
    tiny = torch.finfo(kind).tiny  # below it a log would be -inf; clamping there also stops the gradient
    d2 = (z.to(kind) - mean.detach()).square()  # (..., N)
    # Select first, compute after: an infinite log under a zero mask would still be 0 * inf = NaN in the gradient.
    d2 = torch.where(mask, d2, 1)
    if form == "ms":
        each = d2 / torch.where(mask, var.detach().clamp_min(tiny), 1)  # W25 eq. 1 as a penalty
    else:
        each = d2.clamp_min(tiny).log()  # W25 eq. 5
    if form == "invariant_log_ms":
        flat = z.to(kind).reshape(-1, z.shape[-1])  # (b, N)
        batch_var = (flat - flat.mean(0)).square().sum(0) / max(len(flat) - 1, 1)  # (N,), differentiable
        each = each - torch.where(mask, batch_var.clamp_min(tiny).log(), 0)
    return torch.where(mask, each, 0).sum() / torch.count_nonzero(mask).clamp_min(1)


class PenaltyInBackward(torch.autograd.Function):
    """The identity, whose backward hands its values and the gradient that arrives to ``add`` and passes on the result.

    A backward pass that activation checkpointing runs over repeated values comes here once a batch, like any other.
    """

    @staticmethod
    def forward(ctx, z, add):
        ctx.save_for_backward(z)
        ctx.add = add
        return z.view_as(z)

    @staticmethod
    @once_differentiable  # the extra gradient carries no graph; a second derivative would silently miss it
    def backward(ctx, gradient):
        (z,) = ctx.saved_tensors
        return ctx.add(z, gradient), None


def _check(z: Tensor, mean: Tensor, mask: Tensor) -> None:
    if mask.shape != z.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"the mask is {mask.dtype} {tuple(mask.shape)}; expected torch.bool {tuple(z.shape)}, as the values"
        )
    if mean.shape != z.shape[-1:]:
        raise ValueError(
            f"the mean has shape {tuple(mean.shape)} for values {tuple(z.shape)}; expected ({z.shape[-1]},)"
        )
