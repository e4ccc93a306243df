"""The four parts together on any model: moments, phi, retrieval and inhibition at chosen sites (W24 3.3, W25 4)."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from l2e_min.fresh import fresh_ms
from l2e_min.inhibition import PENALTY_FORMS, PenaltyInBackward, deactivate, ms_penalty
from l2e_min.moments import RunningMoments
from l2e_min.monosemanticity import denominator
from l2e_min.report import Report, site_row
from l2e_min.retrieval import MovingThreshold, TopK
from l2e_min.sites import Site, find_sites
from l2e_min.state import SiteState, recomputing

STRENGTHS = {"reverse": 1.0, "freeze": 0.0, "straight_through": -1.0}  # W24 E.3: D of RD, naive (a), naive (b)
FORGOTTEN_PENALTIES = 256  # forwards without a call of penalty() after which something is surely wrong


class Inhibitor:
    """Finds monosemantic neurons while a model trains and inhibits them. Adds no parameter and changes no shape.

        inhibitor = Inhibitor(model, "middle-2")
        loss = model(...).loss + inhibitor.penalty()

    Args:
        model: any module. It is not wrapped: hooks are put on the sites and taken off by :meth:`remove`.
        sites: modules, their names, or ``"middle-2"``, ``"middle-third"``, ``"all"``; see :mod:`l2e_min.sites`.
        retrieval: a :class:`MovingThreshold` or :class:`TopK`; every site gets its own copy. Default
            ``MovingThreshold(0.02)`` (W25).
        inhibition: ``"reverse"``, ``"freeze"``, ``"straight_through"`` (W24) or a penalty: ``"log_ms"`` (W25),
            ``"ms"``, ``"invariant_log_ms"``.
        weight: lambda of the penalty. Small models turned their MLPs into constants to escape it, at 0.01 and, at a
            higher learning rate, at 0.003 as well (chapter 7), so watch S^2 in :meth:`report`.
        strength: multiplies D of the deactivating kinds (MEmeL-Tune).
        start_after: l_s, batches before anything is inhibited; the authors' code uses 10 (W24 C.2).
        forget_after: n_f, see :class:`RunningMoments`; the authors' code uses 10 (W24 C.1). None: never forget.
        floor: eps of W24 Algorithm 2; the authors' code uses 1/100.
        neuron_axes: how many trailing axes of a site's tensor make up a neuron; all axes before them are inputs. 1: an
            entry of the last axis (G23, W25). 2: every (position, dimension) entry is a neuron of its own with moments
            over the batch alone, as the authors' code of W24 has it. Then all batches need one length: pad them.
        penalty_in: ``"loss"``: you add :meth:`penalty` to the loss. ``"backward"``: its gradient is added during the
            backward pass, with no line in the training loop and for a fraction of the time. Moments and thresholds then
            move in the backward pass, too: a forward pass without one is not seen, and of several forward passes before
            one backward pass the last is seen first.
        loss_scale: with ``"backward"``, what your loss is multiplied by before ``backward()``: a number such as 1/4
            for four accumulated batches, a function that returns it, or a ``torch.amp.GradScaler``.
        sync: where ``torch.distributed`` runs several processes (DDP, FSDP), a batch is joint: moments, thresholds and
            counts agree on all of them and are those of one process with all the inputs, and the average of their
            gradients holds the penalty of the joint batch. One small all-reduce a site and batch, so all processes have
            to run the same forward passes. Each process still has for itself: ``TopK(share=...)``, the variance inside
            ``"invariant_log_ms"``, and the value that :meth:`penalty` returns, whose average is the joint penalty.
        process_group: the processes that share a batch; None: all.
        checked: look at every batch from the host and raise FloatingPointError, naming the module, at a NaN or an
            infinity. Without it such a batch is left out of the moments and counted (``skipped`` in the report).

    In ``eval()``, in ``torch.inference_mode()`` and between :meth:`pause` and :meth:`resume` the model behaves as if
    there were no inhibitor, and so does a deep copy of it. A forward pass that activation checkpointing repeats is not
    a new batch: it gets the selection of the first. A module that is called several times in one forward pass sees a
    batch at every call.
    """

    def __init__(
        self,
        model: nn.Module,
        sites,
        retrieval: MovingThreshold | TopK | None = None,
        inhibition: str = "log_ms",
        weight: float = 0.003,
        strength: float = 1.0,
        start_after: int = 10,
        forget_after: int | None = 10,
        floor: float = 0.01,
        neuron_axes: int = 1,
        penalty_in: str = "loss",
        loss_scale: float | Callable | object = 1.0,
        sync: bool = True,
        process_group: "torch.distributed.ProcessGroup | None" = None,
        checked: bool = False,
    ):
        if inhibition not in (*STRENGTHS, *PENALTY_FORMS):
            raise ValueError(f"inhibition is {inhibition!r}; expected one of {', '.join((*STRENGTHS, *PENALTY_FORMS))}")
        if penalty_in not in ("loss", "backward"):
            raise ValueError(f"penalty_in is {penalty_in!r}; expected 'loss' or 'backward'")
        if retrieval is not None and not isinstance(retrieval, nn.Module):
            raise ValueError(f"retrieval is {retrieval!r}; expected MovingThreshold(...) or TopK(...)")
        for name, number in (("weight", weight), ("strength", strength)):
            if not math.isfinite(number):
                raise ValueError(f"{name} is {number}; expected a finite number")
        if start_after < 0:
            raise ValueError(f"start_after is {start_after}; expected a number of batches of at least 0")
        if not isinstance(neuron_axes, int) or neuron_axes < 1:
            raise ValueError(f"neuron_axes is {neuron_axes!r}; expected a whole number of at least 1")
        denominator(torch.ones(1), floor)  # refuses a bad floor now and not in the first forward pass,
        RunningMoments(1, forget_after)  # and this a bad forget_after
        self.model, self.inhibition, self.weight, self.strength = model, inhibition, weight, strength
        self.start_after, self.forget_after, self.floor = start_after, forget_after, floor
        self.neuron_axes, self.sync, self.process_group = neuron_axes, sync, process_group
        self.penalty_in, self.loss_scale, self.checked = penalty_in, loss_scale, checked
        self.retrieval = MovingThreshold(0.02) if retrieval is None else retrieval
        self.sites = find_sites(model, sites)
        self.states: dict[str, SiteState] = {}  # by site name; made when a site first sees values
        self._penalties: list[Tensor] = []
        self._paused = False
        self._handles = [self._hook(site) for site in self.sites]

    def _hook(self, site: Site):
        def before(module, inputs):
            if not self._active(site, module):
                return None
            return self._visit(site, inputs[0] if inputs else None), *inputs[1:]

        def after(module, inputs, output):
            if not self._active(site, module):
                return None
            if isinstance(output, tuple):  # a transformer block: hidden states first
                return self._visit(site, output[0]), *output[1:]
            return self._visit(site, output)

        if site.side == "input":
            return site.module.register_forward_pre_hook(before)
        return site.module.register_forward_hook(after)

    def _active(self, site: Site, module: nn.Module) -> bool:
        if getattr(module, "_is_replica", False):
            raise RuntimeError("nn.DataParallel runs throw-away copies of the model; use DistributedDataParallel")
        if module is not site.module or self._paused or not module.training:
            return False  # a deep copy of the model takes the hooks along, but it is another model
        # A compiler cannot look through the question, and it does not train in inference mode.
        return torch.compiler.is_compiling() or not torch.is_inference_mode_enabled()

    def _visit(self, site: Site, z: Tensor) -> Tensor:
        """What goes on in place of one batch of values ``z`` at one site."""
        where = f"the {site.side} of {site.name or 'the model'} ({type(site.module).__name__})"
        if not isinstance(z, Tensor):
            raise ValueError(f"{where} is {type(z).__name__}; expected a tensor, or a tuple that starts with one")
        if self.checked and not torch.isfinite(z).all():
            raise FloatingPointError(f"NaN or infinity in {where}")
        state = self._state(site.name, z, where)
        flat = state.neurons_last(z, where)  # (..., N)
        inhibited = self._inhibit(state, flat, where)
        return z if inhibited is flat else inhibited.reshape(z.shape)

    def _inhibit(self, state: SiteState, z: Tensor, where: str) -> Tensor:
        """Observes, selects and inhibits one batch of values ``z`` (..., N)."""
        with_gradient = torch.is_grad_enabled() and z.requires_grad
        if self.inhibition in PENALTY_FORMS and self.penalty_in == "backward":
            return PenaltyInBackward.apply(z, partial(self._add_gradient, state)) if with_gradient else z
        again = recomputing()
        if again:
            visit, mask = state.recall(z, self.floor)
            if visit is None:  # the first time there was nothing to do either
                return z
        else:
            visit, mask = state.observe(z, self.floor, self.start_after, with_gradient)
        if self.inhibition in STRENGTHS:
            return deactivate(z, visit.mean, mask & visit.started, STRENGTHS[self.inhibition] * self.strength)
        if not with_gradient:
            return z
        weight = self.weight * visit.part * visit.started  # scalar; cheaper than clearing the mask
        if not visit.with_gradient:
            raise RuntimeError(
                f"the penalty of {where} was lost: reentrant checkpointing runs the forward pass without a graph; "
                "use use_reentrant=False or penalty_in='backward'"
            )
        # Computed again even where it is dropped: checkpointing counts the tensors that an operation saves.
        penalty = weight * ms_penalty(z, visit.mean, visit.var, mask, self.inhibition)
        if again:
            return z
        if len(self._penalties) >= FORGOTTEN_PENALTIES * len(self.sites):
            raise RuntimeError(
                f"{FORGOTTEN_PENALTIES} batches went by without inhibitor.penalty(): add it to the loss of every step, "
                "or use penalty_in='backward'"
            )
        self._penalties.append(penalty)
        return z

    def _add_gradient(self, state: SiteState, z: Tensor, gradient: Tensor) -> Tensor:
        """What leaves the site backwards where ``gradient`` arrives."""
        extra, scale = state.penalty_gradient(z, self.inhibition, self.floor, self.start_after)
        scale = self._loss_scale() * self.weight * scale
        # Into the extra gradient, which is ours; the one that arrives may be needed elsewhere.
        return torch.addcmul(gradient, extra, scale.to(extra.dtype), out=extra).to(gradient.dtype)

    def _state(self, name: str, z: Tensor, where: str) -> SiteState:
        axes = self.neuron_axes
        if z.ndim < axes + (axes > 1):
            raise ValueError(f"{where} has shape {tuple(z.shape)}; expected a batch axis and {axes} more (neuron_axes)")
        if name not in self.states:
            self.states[name] = SiteState(z.shape[-axes:], self.forget_after, self.retrieval)
        state = self.states[name]
        state.sync, state.group = self.sync, self.process_group
        return state if state.moments.mean.device == z.device else state.to(z.device)

    def _loss_scale(self) -> float | Tensor:
        if hasattr(self.loss_scale, "_get_scale_async"):  # GradScaler; get_scale() would wait for the device
            return self.loss_scale._get_scale_async() if self.loss_scale.is_enabled() else 1.0
        return self.loss_scale() if callable(self.loss_scale) else self.loss_scale

    def penalty(self) -> Tensor:
        """What the forward passes since the last call add to the loss: scalar with gradient, summed over the sites.

        Call it after the forward pass: ``model(...).loss + inhibitor.penalty()``, not the other way round.

        0 for the deactivating kinds, with ``penalty_in="backward"``, in ``eval()`` and while paused.
        """
        penalties, self._penalties = self._penalties, []
        if penalties:
            return torch.stack([p.to(penalties[0].device) for p in penalties]).sum()
        parameter = next(self.model.parameters(), torch.zeros(()))
        return torch.zeros((), device=parameter.device)

    def pause(self) -> None:
        """Stops observing and inhibiting until :meth:`resume`; moments and thresholds keep their values."""
        self._paused = True

    def resume(self) -> None:
        """Goes on after :meth:`pause`."""
        self._paused = False

    def remove(self) -> None:
        """Takes the hooks off: the model computes exactly what its parameters say."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._penalties = [], []

    def state_dict(self) -> dict[str, Tensor]:
        """All moments and thresholds as one flat dictionary of tensors, fit for safetensors."""
        return {f"{name}/{key}": t for name, state in self.states.items() for key, t in state.state_dict().items()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Restores what :meth:`state_dict` gave; sites that have not seen values yet are made from it."""
        names = {site.name for site in self.sites}
        by_site: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state_dict.items():
            by_site.setdefault(key.rpartition("/")[0], {})[key.rpartition("/")[2]] = tensor
        if unknown := set(by_site) - names:
            given, here = ", ".join(sorted(unknown)), ", ".join(sorted(names))
            raise ValueError(f"the state is of other sites: {given}; this inhibitor has {here}")
        made = {
            name: SiteState.of(name, entries, self.forget_after, self.retrieval) for name, entries in by_site.items()
        }
        for name, state in made.items():
            if len(state.neuron_shape) != self.neuron_axes:
                raise ValueError(
                    f"the state of {name} has neuron_axes={len(state.neuron_shape)}; this inhibitor {self.neuron_axes}"
                )
        self.states = made

    def report(self, *inputs, **named) -> Report:
        """A row a site: what it has seen and selected. ``print(inhibitor.report())``. Reads from the device.

        With a batch, given as the model takes it, also MS on that batch by its own moments (:mod:`l2e_min.fresh`).
        """
        rows = [site_row(name, state) for name, state in self.states.items()]
        if inputs or named:
            fresh = fresh_ms(self.model, self.sites, self.neuron_axes, inputs, named)
            rows = [row | fresh.get(row["site"], {}) for row in rows]
        return Report(rows)
