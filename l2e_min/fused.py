"""One walk over the activations that yields the batch sums, phi and the selection together.

Written out, the chain of this package (difference, square, two sums, phi, comparison, count) passes over a layer's
activations seven times, and on a CPU each pass goes through main memory. Here the tokens are walked in blocks that stay
in the processor's cache, with one reused buffer. The arithmetic is the same; what it saves is memory traffic.
``l2e bench method`` measures it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_BYTES = 512 * 1024  # one block of the float buffer: half of a common 1 MiB second-level cache
FEW_THREADS = 4  # up to so many threads one walks alone: blocks are small, and two waited for each other at every one


class BatchSums(NamedTuple):
    """What one walk over a batch of values yields; N neurons, n inputs."""

    d: Tensor  # (N,) sum over the inputs of d = z - centre
    d2: Tensor  # (N,) sum of d^2
    mask: Tensor | None = None  # (n, N) boolean: phi >= tau
    selected: Tensor | None = None  # (N,) selected inputs per neuron


@torch.no_grad()
def batch_sums(z: Tensor, centre: Tensor, scale: Tensor | None = None, tau: Tensor | None = None) -> BatchSums:
    """Sums of ``d = z - centre`` and of ``d^2`` over the inputs, and the pairs with ``phi = d^2 / scale >= tau``.

    Args:
        z: (n, N) values, any floating dtype.
        centre: (N,) what is subtracted first, in the dtype to compute in (float32 or float64).
        scale: (N,) the denominator of phi (W25 eq. 1): the variance and its floor. None: no selection.
        tau: scalar threshold. Needed with ``scale``.
    """
    if z.device.type != "cpu" or torch.compiler.is_compiling():
        d = z.to(centre.dtype) - centre  # (n, N); a compiler or a GPU fuses this chain by itself
        d2 = d.square()
        mask = None if scale is None else d2 * inverse(scale) >= tau
        return BatchSums(d.sum(0), d2.sum(0), mask, None if mask is None else mask.sum(0))

    n, n_neurons = z.shape
    kind = centre.dtype
    sums = torch.zeros(3, 1, n_neurons, dtype=kind)  # of d, d^2 and the selection
    mask = None if scale is None else torch.empty(n, n_neurons, dtype=torch.bool)
    per_scale = None if scale is None else inverse(scale)
    with undisturbed() as threads:
        rows = block_rows(n, n_neurons * centre.element_size(), threads)
        buffer, ones = torch.empty(rows, n_neurons, dtype=kind), torch.ones(1, rows, dtype=kind)
        for start in range(0, n, rows):
            part = z[start : start + rows]
            d, one = buffer[: len(part)], ones[:, : len(part)]
            torch.sub(part, centre, out=d)
            sums[0].addmm_(one, d)  # a row of ones times d: column sums, several times quicker than sum(0)
            d.mul_(d)
            sums[1].addmm_(one, d)
            if mask is not None:
                # Compared in place as floats, then narrowed: torch's comparison of floats into booleans is not
                # vectorized and alone takes longer than all the rest, and so is its count of booleans.
                above = d.mul_(per_scale).ge_(tau)
                sums[2].addmm_(one, above)
                mask[start : start + rows] = above
    return BatchSums(sums[0, 0], sums[1, 0], mask, None if mask is None else sums[2, 0])


@contextmanager
def undisturbed() -> Iterator[int]:
    """For a walk on the CPU: on few threads, the number given, and outside of any autocast region."""
    before = torch.get_num_threads()
    wanted = before if before > FEW_THREADS else 1
    # Autocast would run the matrix products in bfloat16 and spoil the moments.
    with torch.autocast("cpu", enabled=False):
        if wanted != before:
            torch.set_num_threads(wanted)
        try:
            yield wanted
        finally:
            if wanted != before:
                torch.set_num_threads(before)


def block_rows(n: int, row_bytes: int, threads: int) -> int:
    """Inputs of one block of a walk over ``n``."""
    return max(1, min(n, threads * BLOCK_BYTES // row_bytes, threads * 256))


def inverse(scale: Tensor) -> Tensor:
    """(N,) 1/scale, so that phi is ``d2 * inverse``: 0 where a constant neuron is at its constant, and not NaN."""
    # The largest float stands for 1/0: times 0 it is 0, times anything else huge.
    return scale.reciprocal().clamp_max(torch.finfo(scale.dtype).max)
