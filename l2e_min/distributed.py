"""One batch spread over several processes (DDP, FSDP): its sums become those of the joint batch.

Every process then has the same moments, the same threshold and the same number of selected pairs, as one process with
all the inputs would. It costs one small collective a site and batch. In one process nothing happens.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from l2e_min.fused import BatchSums


def processes(group: "dist.ProcessGroup | None" = None) -> int:
    """How many processes share a batch; 1 where ``torch.distributed`` is not in use."""
    if not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size(group)


@torch.no_grad()
def joint(
    n: int, selected: Tensor, sums: BatchSums, shift: Tensor, group: "dist.ProcessGroup | None" = None
) -> tuple[Tensor, Tensor, BatchSums]:
    """Inputs, selected pairs and sums of the joint batch.

    Args:
        n: inputs of this process, which may differ from process to process and may be 0.
        selected: scalar, pairs that this process selected.
        sums: of ``z - centre`` and its square over them.
        shift: (N,) ``centre - mean``. In the first batch each process has a centre of its own, and sums about different
            centres do not add up; the mean so far is the same for all.

    Returns:
        Scalar int64 inputs, scalar float64 pairs, and sums about the mean, float64: far from it, float32 would cancel.
    """
    shift, d, d2 = (t.to(torch.float64) for t in (shift, sums.d, sums.d2))  # (N,) each
    counts = torch.stack([torch.full_like(d[0], n), selected.to(torch.float64)])  # (2,)
    message = torch.cat([counts, d + n * shift, d2 + 2 * shift * d + n * shift.square()])  # (2 + 2 N,)
    dist.all_reduce(message, group=group)
    about_mean = message[2:].view(2, -1)
    return message[0].to(torch.int64), message[1], BatchSums(about_mean[0], about_mean[1])
