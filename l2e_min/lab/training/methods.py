"""From settings to what is done to a model while it pretrains: an inhibitor, a control, or nothing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from l2e_min import Inhibitor, MovingThreshold, TopK
from l2e_min.lab.errors import UserError
from l2e_min.lab.training.controls import MeanReplaced, RandomPairs, make_linear, make_small, make_zero
from l2e_min.lab.training.method_choice import DEACTIVATING, LAYERS, PENALTIES, block_numbers
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.run_folder import read_json
from l2e_min.sites import Site, find_sites, mlp_sites

Attach = Callable[[nn.Module], tuple[Callable[[], Tensor] | None, dict[str, Any]]]
"""Given the model: a penalty to add to the loss (or None), and what must be saved with a checkpoint, by name.

The saved objects have ``state_dict`` and ``load_state_dict``. An ``Inhibitor`` fits:
``lambda model: ((i := Inhibitor(model, ...)).penalty, {"inhibitor": i})``. Where one has a ``loss_scale``, training
sets it to what it multiplies the loss by; where one has ``bake()``, that is called when training is over.
"""

SETTLING = 10
"""l_s and n_f of W24 C.1 and C.2, in steps: batches before anything is inhibited, and batches that are remembered."""


def attach_method(settings: PretrainSettings, *, penalty_in: str = "backward") -> Attach:
    """What to do to the model for ``settings.method``; see ``Attach`` and, for ``penalty_in``, ``Inhibitor``.

    A step that is accumulated from several batches lets the inhibitor see each of them, so it waits for, and
    remembers, that many times more batches: the same number of tokens.
    """

    def attach(model: nn.Module) -> tuple[Callable[[], Tensor] | None, dict[str, Any]]:
        method = settings.method
        if method == "plain":
            return None, {}
        sites = chosen_sites(model, settings.layers)
        if method in DEACTIVATING or method in PENALTIES:
            inhibitor = Inhibitor(
                model,
                [f"{site.name}:input" for site in sites],
                retrieval_of(settings),
                {**DEACTIVATING, **PENALTIES}[method],
                weight=settings.weight,
                start_after=SETTLING * settings.accumulate,
                forget_after=SETTLING * settings.accumulate,
                penalty_in=penalty_in,
            )
            return inhibitor.penalty, {"inhibitor": inhibitor}
        control = apply_change(model, method, sites)
        return None, {} if control is None else {"control": control}

    return attach


def retrieval_of(settings: PretrainSettings) -> nn.Module:
    """What selects the pairs."""
    if settings.retrieval == "random":
        return RandomPairs(settings.share)
    if settings.retrieval == "threshold":
        return MovingThreshold(settings.share)
    if settings.retrieval == "top-share":
        return TopK(share=settings.share)
    return TopK(k=int(re.fullmatch(r"top-(\d+)", settings.retrieval)[1]))


def chosen_sites(model: nn.Module, layers: str = LAYERS) -> list[Site]:
    """The neurons of the blocks that ``layers`` names, see ``block_numbers``: inputs of the second linear layers."""
    blocks = mlp_sites(model) or find_sites(model, "all")  # the second names what is missing
    return [blocks[number] for number in block_numbers(layers, len(blocks))]


def apply_change(model: nn.Module, method: str, sites: list[Site]) -> Any:
    """Changes the MLPs as the control ``method`` says; the object that has to be saved or baked, or None."""
    if method == "linear":
        return make_linear(model, sites)
    if method == "zeroed":
        return make_zero(sites)
    if method == "shrunk":
        return make_small(model, sites)
    if method == "mean_replaced":
        return MeanReplaced(model, sites)
    raise UserError(f"no such control: {method!r}")


def load_run(run: Path):
    """(model, tokenizer) of a finished run, computing as it did when it was trained, in evaluation mode.

    Of all methods only ``linear`` is not in the weights; for every other one ``load_model(run / "model")`` is the same.
    """
    from l2e_min.lab.mini_pythia import load_model

    settings = read_json(run / "settings.json")
    if settings is None or not (run / "model").is_dir():
        raise UserError(f"there is no finished run in {run}; finish it with: l2e pretrain --out {run} --resume")
    model, tokenizer = load_model(run / "model")
    if settings["method"] == "linear":
        make_linear(model, chosen_sites(model, settings["layers"]))
    return model, tokenizer
