"""The penalty's gradient, the batch sums and the selection in one walk over the activations, for the backward pass.

The gradient of W25 eq. 5 is ``2 / (z - mean)`` on the selected pairs, over their number. That number is known only when
all pairs have been seen, so the walk leaves it out, and the whole is scaled once when it is added to the gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from l2e_min.fused import BatchSums, block_rows, inverse, undisturbed

FORMS = ("ms", "log_ms")  # those whose gradient at a pair needs that pair alone
GPU_BLOCK_BYTES = 32 * 1024**2  # a GPU's cache holds some 50 MB, and so large a block hides the launches


class PenaltyWalk(NamedTuple):
    """What one walk yields; N neurons, n inputs."""

    sums: BatchSums  # d and d2, see there
    selected: Tensor  # scalar, selected pairs
    half_gradient: Tensor  # (n, N) half the gradient of the penalty's sum over the selected pairs; 0 elsewhere


@torch.no_grad()
def penalty_walk(z: Tensor, centre: Tensor, var: Tensor, scale: Tensor, tau: Tensor, form: str) -> PenaltyWalk:
    """Walks once over ``z`` (n, N); arguments as for :func:`~l2e_min.fused.batch_sums`, and ``var`` (N,) of the form.

    The half gradient comes in bfloat16 for bfloat16 values, else in the dtype of ``centre``: float16 would overflow.
    """
    n, n_neurons = z.shape
    kind, narrow = centre.dtype, z.dtype if z.dtype == torch.bfloat16 else centre.dtype
    per_scale = inverse(scale)
    slope = 1 / var.clamp_min(torch.finfo(kind).tiny) if form == "ms" else None  # (N,)
    if torch.compiler.is_compiling():  # the compiler fuses this by itself
        d = z.to(kind) - centre  # (n, N)
        mask = d.square() * per_scale >= tau
        each = 1 / d if form == "log_ms" else d * slope
        sums = BatchSums(d.sum(0), d.square().sum(0))
        return PenaltyWalk(sums, mask.sum().to(torch.float64), torch.where(mask, each, 0).to(narrow))

    cpu = on_cpu(z)
    sum_d, sum_d2 = torch.zeros(2, 1, n_neurons, dtype=kind, device=z.device)
    selected = torch.zeros((), dtype=torch.float64, device=z.device)
    half_gradient = torch.empty(n, n_neurons, dtype=narrow, device=z.device)
    with undisturbed() as threads:
        row_bytes = n_neurons * centre.element_size()
        rows = block_rows(n, row_bytes, threads) if cpu else max(1, min(n, GPU_BLOCK_BYTES // row_bytes))
        buffer, d2 = torch.empty(2, rows, n_neurons, dtype=kind, device=z.device)
        one = torch.ones(1, rows, dtype=kind, device=z.device)
        for part, out in zip(z.split(rows), half_gradient.split(rows), strict=True):
            if len(part) < rows:
                buffer, d2, one = buffer[: len(part)], d2[: len(part)], one[:, : len(part)]
            d = buffer if out.dtype != kind else out  # of one dtype: what is left in d in the end is the result
            if part.dtype == kind:
                torch.sub(part, centre, out=d)
            else:
                d.copy_(part).sub_(centre)  # in one step the conversion would take twice as long
            torch.mul(d, d, out=d2)
            if cpu:  # a row of ones times d: column sums, several times quicker than sum(0)
                sum_d.addmm_(one, d)
                sum_d2.addmm_(one, d2)
            else:  # where a matrix product may round to TensorFloat-32
                sum_d += d.sum(0)
                sum_d2 += d2.sum(0)
            above = d2.mul_(per_scale).ge_(tau)  # as floats 0 and 1; NaN is 0
            selected += above.sum()
            if form == "log_ms":
                torch.div(above, d, out=d)
            else:
                d.mul_(above).mul_(slope)
            d.nan_to_num_(0.0)  # 0/0 of an unselected value at its mean
            if d is not out:
                out.copy_(d)
    return PenaltyWalk(BatchSums(sum_d[0], sum_d2[0]), selected, half_gradient)


def on_cpu(z: Tensor) -> bool:
    return z.device.type == "cpu"
