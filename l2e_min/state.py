"""What an inhibitor remembers of one site, and how a recomputed forward pass is told from a new batch."""

import copy
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from l2e_min.distributed import joint, processes
from l2e_min.fused import BatchSums, batch_sums
from l2e_min.fused_penalty import FORMS, penalty_walk
from l2e_min.inhibition import ms_penalty
from l2e_min.moments import RunningMoments
from l2e_min.monosemanticity import denominator, monosemantic_scale
from l2e_min.retrieval import MovingThreshold

KEPT_VISITS = 32  # forwards whose backward may still come; each keeps three rows of N numbers, so this stays small
SAMPLED_ROWS = 8  # inputs of a batch that tell it from the others


class Visit(NamedTuple):
    """What one batch was judged by; constants in its gradient."""

    mean: Tensor  # (N,) of the values before the batch
    var: Tensor  # (N,) likewise
    tau: Tensor | None  # scalar, before it moved; None for top-k
    started: Tensor  # boolean scalar: whether inhibition had started
    part: float | Tensor = 1.0  # of the joint batch's mean penalty, by SiteState._take_in
    sample: Tensor | None = None  # (N,) sum of some of the batch's inputs
    with_gradient: bool = True  # whether the forward pass recorded a graph


def recomputing() -> bool:
    """Whether this forward pass runs inside a backward pass: activation checkpointing repeats an old batch."""
    # The test that torch.utils.checkpoint makes itself. A compiler plans its own recomputation and never gets here.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class SiteState(nn.Module):
    """Moments, threshold and share of one site: buffers only, apart from the last few visits.

    ``neuron_shape``: the trailing axes that make up a neuron, (N,) or, say, (positions, dimensions).
    """

    def __init__(self, neuron_shape: Sequence[int], forget_after: int | None, retrieval: nn.Module):
        super().__init__()
        self.sync, self.group = True, None  # whether a batch is joint with that of other processes, and of which group
        self.neuron_shape = torch.Size(neuron_shape)
        if len(self.neuron_shape) > 1:  # N alone would not tell 4 x 6 from 6 x 4
            self.register_buffer("shape_of_neurons", torch.tensor(self.neuron_shape))
        self.moments = RunningMoments(self.neuron_shape.numel(), forget_after)
        self.retrieval = copy.deepcopy(retrieval).train()
        self.register_buffer("share", torch.zeros((), dtype=torch.float32))  # selected pairs of the last batch
        self.visits: deque[Visit] = deque(maxlen=KEPT_VISITS)

    @classmethod
    def of(cls, name: str, entries: dict[str, Tensor], forget_after: int | None, retrieval: nn.Module) -> "SiteState":
        """The state that a ``state_dict`` holds of the site ``name``."""
        if "moments.mean" not in entries:
            raise ValueError(f"the state holds no moments.mean of {name}; it is not whole")
        mean = entries["moments.mean"]
        shape = entries["shape_of_neurons"].tolist() if "shape_of_neurons" in entries else mean.shape
        state = cls(shape, forget_after, retrieval)
        state.load_state_dict(entries)
        return state.to(mean.device)

    def neurons_last(self, z: Tensor, where: str) -> Tensor:
        """(..., N): the axes that make up a neuron as one."""
        axes = len(self.neuron_shape)
        if z.shape[-axes:] != self.neuron_shape:
            raise ValueError(
                f"{where} has shape {tuple(z.shape)}; its neurons had shape {tuple(self.neuron_shape)} before"
                + ("; with neuron_axes above 1 pad all batches to one length" if axes > 1 else "")
            )
        return z if axes == 1 else z.flatten(-axes)

    @torch.no_grad()
    def observe(self, z: Tensor, floor: float, start_after: int, with_gradient: bool = True) -> tuple[Visit, Tensor]:
        """Selects among ``z`` (..., N) by the moments so far, then takes ``z`` into them.

        Returns what ``z`` was judged by, and the mask in the shape of ``z``.
        """
        flat = self.moments.flat(z)  # (b, N)
        visit = self._judge(start_after)
        visit = visit._replace(mean=visit.mean.clone(), var=visit.var.clone(), with_gradient=with_gradient)
        if len(flat) == 0 and self._processes() == 1:
            return visit, torch.zeros_like(z, dtype=torch.bool)
        centre = self.moments.centre(flat)
        mask, selected, sums = self._select(z, flat, centre, visit, floor)
        visit = visit._replace(part=self._take_in(flat, centre, sums, selected))
        if not torch.compiler.is_compiling():
            self.visits.append(visit._replace(sample=self._sample(flat)))
        return visit, mask

    def penalty_gradient(self, z: Tensor, form: str, floor: float, start_after: int) -> tuple[Tensor, Tensor]:
        """Gradient of ``ms_penalty`` at ``z`` (..., N), judged by the moments so far; then takes ``z`` into them.

        Returns a tensor in the shape of ``z`` and the scalar that it has to be multiplied by.
        """
        flat = self.moments.flat(z)  # (b, N)
        visit = self._judge(start_after)
        if form not in FORMS or visit.tau is None or len(flat) == 0 or z.dtype == torch.float64:
            # What cannot be had in one walk, or in float32: by the public function and autograd.
            visit, mask = self.observe(z, floor, start_after)
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(ms_penalty(z, visit.mean, visit.var, mask, form), z)
            return gradient, visit.part * visit.started
        centre = self.moments.centre(flat)
        walk = penalty_walk(flat, centre, visit.var, denominator(visit.var, floor), visit.tau, form)
        part = self._take_in(flat, centre, walk.sums, walk.selected)
        return walk.half_gradient.view(z.shape), 2 * part * visit.started / walk.selected.clamp_min(1)

    def _judge(self, start_after: int) -> Visit:
        """By what the next batch is judged; its moments are the buffers themselves."""
        moments = self.moments
        started = (moments.count > 1) & (moments.batches >= start_after)  # with one value there is no variance
        tau = self.retrieval.tau if isinstance(self.retrieval, MovingThreshold) else None
        return Visit(moments.mean, moments.var, tau, started)

    def _take_in(self, flat: Tensor, centre: Tensor, sums: BatchSums, selected: Tensor) -> float | Tensor:
        """Moves the moments, the share and the threshold by a batch with so many selected pairs.

        Returns what a mean over this process's selected pairs has to be multiplied by, so that the average over all
        processes, which is what DDP and FSDP make of gradients, is the mean over the pairs of the joint batch.
        """
        n, pairs, part = len(flat), flat.numel(), 1.0
        if (count := self._processes()) > 1:
            own = selected.clamp_min(1)
            n, selected, sums = joint(n, selected, sums, centre - self.moments.mean, self.group)
            pairs, centre = n.clamp_min(1) * flat.shape[1], self.moments.mean
            part = count * own / selected.clamp_min(1)
        ready = self.moments.count > 1  # before this batch: without a variance nothing could be selected
        ok = self.moments.update_from_sums(n, sums, centre)
        self.share.copy_(selected / pairs)
        if isinstance(self.retrieval, MovingThreshold):
            self.retrieval.move(self.share, ok & ready)
        return part

    def _processes(self) -> int:
        return processes(self.group) if self.sync else 1

    @torch.no_grad()
    def recall(self, z: Tensor, floor: float) -> tuple[Visit | None, Tensor]:
        """What :meth:`observe` returned when it saw ``z`` first; nothing is observed or moved. None if it never did.

        Of the visits kept, the one whose sample lies nearest to that of ``z``; of equals the newest. The choice is made
        on the device.
        """
        flat = self.moments.flat(z)  # (b, N)
        if len(flat) == 0 or not self.visits:
            return None, torch.zeros_like(z, dtype=torch.bool)
        kept = list(reversed(self.visits))
        samples = torch.stack([visit.sample for visit in kept])  # (K, N)
        # argmin takes the first of equals. index_select, because samples[at] would wait for the device.
        at = (samples - self._sample(flat)).abs().sum(1).argmin().reshape(1)  # (1,)

        def chosen(name: str) -> Tensor:
            return torch.stack([getattr(visit, name) for visit in kept]).index_select(0, at).squeeze(0)

        tau = None if kept[0].tau is None else chosen("tau")
        known = any(visit.with_gradient for visit in kept)
        visit = Visit(chosen("mean"), chosen("var"), tau, chosen("started"), with_gradient=known)
        return visit, self._select(z, flat, visit.mean, visit, floor)[0]

    def _select(self, z: Tensor, flat: Tensor, centre: Tensor, visit: Visit, floor: float):
        """The mask in the shape of ``z``, how many pairs it selects, and the batch's sums about ``centre``."""
        if len(flat) == 0:  # of this process; others may have inputs
            mask = torch.zeros_like(z, dtype=torch.bool)
            return mask, torch.count_nonzero(mask), batch_sums(flat, centre)
        if visit.tau is not None:  # phi and the comparison ride along with the sums
            sums = batch_sums(flat, centre, denominator(visit.var, floor), visit.tau)
            return sums.mask.view(z.shape), sums.selected.sum(), sums
        mask = self.retrieval(monosemantic_scale(z.detach(), visit.mean, visit.var, floor))
        return mask, torch.count_nonzero(mask), batch_sums(flat, centre)

    def _sample(self, flat: Tensor) -> Tensor:
        rows = flat[:: max(1, len(flat) // SAMPLED_ROWS)][:SAMPLED_ROWS]  # (at most 8, N)
        return rows.to(self.moments.mean.dtype).sum(0)  # a sum, so that no view keeps the activations alive
