"""Short pretraining of mini Pythias under every form of the penalty, with the controls that must stand beside them.

One run is :func:`train`; ``pretraining_record`` makes them all and keeps what chapter 5 reads. The two middle MLPs are
inhibited (W25's Mid-2). Learning rate and everything else are the recipe's own.
"""

import math
from dataclasses import dataclass

from torch import nn

from l2e_min import Inhibitor, MovingThreshold
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import untrained
from l2e_min.lab.training.controls import RandomPairs, make_linear, make_zero
from l2e_min.lab.training.look import look, mean_cost
from l2e_min.lab.training.pretrain import training_step
from l2e_min.lab.training.random_state import seed_generators
from l2e_min.lab.training.recipe import PretrainSettings, learning_rate_at, make_optimizer
from l2e_min.sites import find_sites

PLACE = "middle-2"


@dataclass(frozen=True)
class Kind:
    """What is done to the middle MLPs."""

    form: str | None = None
    """A penalty's form, or None for no penalty."""
    weight: float = 0.0
    """lambda of the log penalty; for ``"ms"`` of the log penalty whose gradient it shall equal at the start."""
    random: bool = False
    """Control: the same penalty on as many pairs drawn at random."""
    layer: str = "gelu"
    """Control: ``"linear"`` takes the non-linearity away, ``"zeroed"`` the whole MLP."""
    clip: float = 1.0
    """Largest norm of the gradient; the recipe's is 1."""


KINDS = {
    "plain": Kind(),
    "log_ms": Kind("log_ms", 0.01),
    "ms": Kind("ms", 0.01),
    "invariant_log_ms": Kind("invariant_log_ms", 0.01),
    "random": Kind("log_ms", 0.01, random=True),
    "linear": Kind(layer="linear"),
    "zeroed": Kind(layer="zeroed"),
    "log_ms_003": Kind("log_ms", 0.003),
    "invariant_log_ms_003": Kind("invariant_log_ms", 0.003),
    "log_ms_unclipped": Kind("log_ms", 0.01, clip=1e9),
    "ms_unclipped": Kind("ms", 0.01, clip=1e9),
}
"""Every kind by name. 0.01 is the weight at which W25's penalty was seen to empty a mini model's MLPs."""


def train(
    kind: str | Kind, seed: int, text, settings: PretrainSettings, look_at: tuple[int, ...], rows: int = 32
) -> dict:
    """One run: plain numbers for JSON.

    Args:
        kind: a name in ``KINDS``, or a kind of your own.
        seed: draws the initial weights; the order of the text is that of ``text`` for all seeds.
        text: a ``TrainingText``.
        settings: the recipe; its seed and clip are replaced.
        look_at: after these steps the model is measured on held-out text (0: before the first).
        rows: held-out rows of a look.

    Returns:
        ``weight``: the lambda used. ``loss``, ``norm``: nats a token without the penalty, and the gradient's norm
        before clipping, at every step. ``looks``: a row for each of ``look_at``, see :func:`look`. ``mean_cost``: how
        much the held-out loss rises when both MLPs are replaced by their mean output. A run whose loss is no longer
        finite ends there, and says so in ``finite``.
    """
    if not isinstance(kind, Kind) and kind not in KINDS:
        raise UserError(f"no such kind: {kind!r}; expected one of {', '.join(KINDS)}")
    kind = kind if isinstance(kind, Kind) else KINDS[kind]
    settings = PretrainSettings(**settings.as_dict() | {"seed": seed, "clip": kind.clip})
    vocabulary = len(text.tokenizer)
    model = untrained(settings.size, seed=seed, vocabulary=vocabulary, context=settings.context).train()
    change_layer(model, kind.layer)
    seed_generators(seed)  # for RandomPairs
    optimizer = make_optimizer(model, settings)
    sites = find_sites(model, PLACE)
    penalty, weight = None, 0.0
    if kind.form:
        weight = equal_weight(settings, text, kind.weight) if kind.form == "ms" else kind.weight
        retrieval = RandomPairs(0.02) if kind.random else MovingThreshold(0.02)
        penalty = Inhibitor(model, PLACE, retrieval, inhibition=kind.form, weight=weight).penalty
    held_out = text.validation.rows(text.validation.spread(rows))  # (rows, context) twice
    losses, norms, looks = [], [], []
    if 0 in look_at:
        looks.append({"step": 0} | look(model, held_out, settings, sites))
    for step in range(settings.steps):
        inputs, targets = text.training.read(step * settings.batch, settings.batch)  # (batch, context) each
        rate = learning_rate_at(step, settings)
        loss, norm = training_step(model, optimizer, inputs, targets, rate, settings, penalty)
        losses.append(loss.item())
        norms.append(norm.item())
        if not math.isfinite(losses[-1] + norms[-1]):
            return {"weight": weight, "finite": False, "loss": losses[:-1], "norm": norms[:-1], "looks": looks}
        if step + 1 in look_at:
            looks.append({"step": step + 1} | look(model, held_out, settings, sites))
    found = {"weight": weight, "finite": True, "loss": losses, "norm": norms, "looks": looks}
    return found | {"mean_cost": mean_cost(model, held_out, settings, sites)}


def equal_weight(settings: PretrainSettings, text, weight: float, warm_up: int = 11) -> float:
    """The lambda at which the plain MS penalty starts with a gradient as large as the log penalty's at ``weight``.

    Both gradients are taken over all parameters, at the initial weights, on the batch after the moments have settled.
    """
    norms = []
    for form in ("log_ms", "ms"):
        vocabulary = len(text.tokenizer)
        model = untrained(settings.size, seed=settings.seed, vocabulary=vocabulary, context=settings.context).train()
        inhibitor = Inhibitor(model, PLACE, inhibition=form, weight=1.0)
        for batch in range(warm_up):
            inputs, _ = text.training.read(batch * settings.batch, settings.batch)
            model(input_ids=inputs, use_cache=False)
            penalty = inhibitor.penalty()
        penalty.backward()
        norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item())
    return weight * norms[0] / norms[1]


def change_layer(model: nn.Module, layer: str) -> None:
    """Makes the middle MLPs linear or takes them away; ``"gelu"`` leaves them as they are."""
    if layer not in ("gelu", "linear", "zeroed"):
        raise UserError(f"no such layer: {layer!r}; expected gelu, linear or zeroed")
    sites = find_sites(model, PLACE)
    if layer == "linear":
        make_linear(model, sites)
    if layer == "zeroed":
        make_zero(sites)
