"""Looking at a fine-tuning run's steps: what each does to the pairs that MEmeL would select in its batch.

At some steps every row's pair with the largest phi is picked, by moments that then stay fixed, and its value is taken
before the step (z) and after it (z'), on the same rows with dropout off. Beside every step its *control*: the same step
without inhibition, from a copy of the same weights and optimizer, with the same dropout.

Dropout moves the largest phi: the pairs picked with dropout off are not those that the step itself picks (and inhibits,
where the method does). So both are kept, as ``PICKS``.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from l2e_min import RunningMoments, TopK, monosemantic_scale
from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.methods import middle_blocks
from l2e_min.lab.finetuning.run import FineTuneSettings, autocast, loss_of, make_optimizer
from l2e_min.lab.mini_bert import encoder_layers
from l2e_min.monosemanticity import denominator

EVERY = 25
"""Steps between two that are looked at."""

START, FORGET, FLOOR = 10, 10, 0.01
"""MEmeL's late start, forget step and variance compensation (W24 C; the defaults of ``Inhibitor``)."""


PICKS = ("off", "step")
"""By which values a pair was picked: "off", those with dropout off, as W24 Table 4 can be read; "step", those of the
step's own forward pass, so that it is the pair that was inhibited."""


@dataclass(frozen=True)
class Pairs:
    """The P pairs picked in a run; arrays (P,)."""

    step: np.ndarray
    layer: np.ndarray
    """Number of the block from 0."""
    before: np.ndarray
    """Values z."""
    after: np.ndarray
    """Values z' after the step that the run made."""
    control: np.ndarray
    """Values z' after the same step without inhibition."""
    mean: np.ndarray
    """Fixed mean of the pair's neuron."""
    phi: np.ndarray
    """phi(z), with W24's variance compensation."""
    picked: np.ndarray
    """One of ``PICKS``."""
    both: np.ndarray
    """Boolean: either way of picking gives this pair."""

    def decrease(self, after: str = "after") -> np.ndarray:
        """Decrease ratio (1 - phi(z') / phi(z)) in percent, (P,); the fixed variance drops out. ``after``: or
        "control"."""
        return 100 * (1 - ((getattr(self, after) - self.mean) / (self.before - self.mean)) ** 2)

    def moved(self, after: str = "after") -> np.ndarray:
        """Total update ratio |z' / z - 1| in percent, (P,)."""
        return 100 * np.abs(getattr(self, after) / self.before - 1)

    def difference(self) -> np.ndarray:
        """The step's decrease ratio minus its control's, in percentage points, (P,)."""
        return self.decrease() - self.decrease("control")

    def take(self, chosen: np.ndarray) -> "Pairs":
        """Those of ``chosen``: (P,) bool."""
        return Pairs(**{name: values[chosen] for name, values in vars(self).items()})


class Watch:
    """Looks at a run's steps: give ``before`` and ``after`` to ``fine_tune``, then read ``pairs()``."""

    def __init__(self, settings: FineTuneSettings, every: int = EVERY):
        if settings.method.reading != "neuron":
            raise UserError("the decrease ratio is measured on neurons that are dimensions; take the reading 'neuron'")
        if every < 1:
            raise UserError(f"every is {every}; expected a number of steps of at least 1")
        self.settings, self.every = settings, every
        self.blocks: list[nn.Module] = []
        self.moments: list[RunningMoments] = []
        self._layers: list[int] = []
        self._now: dict | None = None  # the step that is looked at
        self._live = False  # between before() and after(): the step's own forward pass
        self._found: list[dict[str, np.ndarray]] = []

    def before(self, number: int, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor, optimizer) -> None:
        """For ``fine_tune(before_step=)``: picks the pairs, and makes the control's step on a copy."""
        if not self.blocks:
            self._attach(model)
        self._now, self._live = None, True
        if number % self.every or number <= START:
            return
        self._now = {
            "before": (before := self._values(model, inputs)),
            "control": self._control(model, inputs, labels, optimizer),
            "mean": [m.mean.clone() for m in self.moments],
            "scale": [denominator(m.var, FLOOR).clone() for m in self.moments],
            "off": [picked_pairs(z, m) for z, m in zip(before, self.moments, strict=True)],
            "step": [None] * len(before),
        }

    def after(self, number: int, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> None:
        """For ``fine_tune(after_step=)``."""
        self._live = False
        if self._now is None:
            return
        now = self._now | {"after": self._values(model, inputs)}
        for place, layer in enumerate(self._layers):
            both = (now["off"][place] == now["step"][place]).cpu().numpy()
            for picked in PICKS:
                index = now[picked][place]  # (b,)
                columns = {name: _at(now[name][place], index) for name in ("before", "after", "control")}
                neuron = index % len(now["mean"][place])
                columns["mean"] = now["mean"][place][neuron].double().cpu().numpy()
                scale = now["scale"][place][neuron].double().cpu().numpy()
                columns["phi"] = (columns["before"] - columns["mean"]) ** 2 / scale
                rows = {"step": number, "layer": layer, "picked": picked}
                self._found.append(columns | {"both": both} | {k: np.full(len(both), v) for k, v in rows.items()})

    def pairs(self) -> Pairs:
        """All pairs so far. UserError where no step has been looked at."""
        if not self._found:
            raise UserError(f"no step was looked at: the run is shorter than {max(self.every, START + 1)} steps")
        return Pairs(**{name: np.concatenate([part[name] for part in self._found]) for name in self._found[0]})

    def _attach(self, model: nn.Module) -> None:
        self.blocks = middle_blocks(model.encoder)
        self._layers = [list(encoder_layers(model.encoder)).index(block) for block in self.blocks]
        device = next(model.parameters()).device
        self.moments = [RunningMoments(model.encoder.config.hidden_size, FORGET).to(device) for _ in self.blocks]
        for place, block in enumerate(self.blocks):

            def observe(module, _inputs, output, place=place):
                if not self._live or module is not self.blocks[place]:  # the control's copy has the hook, too
                    return
                z = (output[0] if isinstance(output, tuple) else output).detach()
                moments = self.moments[place]
                if self._now is not None:
                    self._now["step"][place] = picked_pairs(z, moments)
                moments.update(z)

            block.register_forward_hook(observe, prepend=True)  # before an inhibitor replaces the values

    def _values(self, model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
        """The middle blocks' outputs (b, t, d) with dropout and inhibition off."""
        found: list[Tensor] = []
        keep = lambda _module, _inputs, output: found.append(output[0] if isinstance(output, tuple) else output)  # noqa: E731
        handles = [block.register_forward_hook(keep) for block in middle_blocks(model.encoder)]
        was, live, self._live = model.training, self._live, False
        model.eval()
        try:
            with torch.no_grad(), autocast(self.settings):
                model(**inputs)
        finally:
            for handle in handles:
                handle.remove()
            model.train(was)
            self._live = live
        return found

    def _control(self, model: nn.Module, inputs: dict[str, Tensor], labels: Tensor, optimizer) -> list[Tensor]:
        """The values after ``fine_tune``'s step without inhibition: an inhibitor leaves a deep copy alone."""
        twin = copy.deepcopy(model).train()
        opt = make_optimizer(twin, self.settings)
        opt.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # without the copy both would move the same state
        with torch.random.fork_rng():  # the run draws the same dropout afterwards
            with autocast(self.settings):
                logits = twin(**inputs)
            opt.zero_grad(set_to_none=True)
            loss_of(logits, labels).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), self.settings.clip)
        opt.step()
        return self._values(twin, inputs)


def picked_pairs(z: Tensor, moments: RunningMoments) -> Tensor:
    """(b,): the pair with the largest phi of every row of ``z`` (b, t, d), as position * d + dimension (W24 Alg. 2)."""
    phi = monosemantic_scale(z.detach(), moments.mean, moments.var, FLOOR)  # (b, t, d)
    return TopK(k=1)(phi).flatten(1).int().argmax(1)


def _at(z: Tensor, index: Tensor) -> np.ndarray:
    """(b,) float64 values of one pair a row."""
    return z.flatten(1).gather(1, index[:, None])[:, 0].double().cpu().numpy()
