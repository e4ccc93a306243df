"""Where in a model the neurons are: which module, and whether its input or its output."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

# The second linear layer of an MLP block, by the end of its name, in Hugging Face transformers. Its input is the block
# after the non-linearity: the neurons of G23 and W25.
_SECOND_LINEAR = re.compile(
    r"(mlp\.dense_4h_to_h"  # GPT-NeoX (Pythia), BLOOM, Falcon
    r"|mlp\.c_proj"  # GPT-2
    r"|mlp\.down_proj"  # Llama, Mistral, Qwen, Gemma
    r"|mlp\.fc_out|mlp\.fc2|\bfc2"  # GPT-J; ViT, Phi, CLIP; OPT
    r"|(?<!attention)(?<!attn)\.output\.dense"  # BERT, RoBERTa, Swin (not the attention's own output)
    r"|ffn\.lin2|ffn_output|DenseReluDense\.wo)$"  # DistilBERT, ALBERT, T5
)

PLACES = ("middle-2", "middle-third", "all")


@dataclass(frozen=True)
class Site:
    """One layer of neurons: the input or the output of a module."""

    name: str
    module: nn.Module
    side: str  # "input" or "output"


def mlp_sites(model: nn.Module) -> list[Site]:
    """Every MLP block of a Hugging Face transformer, in depth order: the input of its second linear layer."""
    return [Site(name, module, "input") for name, module in model.named_modules() if _SECOND_LINEAR.search(f".{name}")]


def find_sites(model: nn.Module, sites: str | nn.Module | Iterable) -> list[Site]:
    """The sites a user named.

    Args:
        sites: ``"middle-2"``, ``"middle-third"`` or ``"all"`` of a transformer's MLP blocks; or a module, a module's
            name, or a list of these. A module stands for its output; write ``"name:input"`` or ``(module, "input")``
            for its input.

    Errors: ValueError for a name or module that the model does not have, and for a model without known MLP blocks.
    """
    if isinstance(sites, str) and sites in PLACES:
        blocks = mlp_sites(model)
        if not blocks:
            raise ValueError(
                f"no MLP blocks known in {type(model).__name__}; name the modules instead, such as sites=[model.act]"
            )
        return _middle(blocks, sites)
    if isinstance(sites, str | nn.Module) or _is_pair(sites):
        sites = [sites]
    found = [_one(model, site) for site in sites]
    if not found:
        raise ValueError("no sites given; expected modules, their names, or one of " + ", ".join(PLACES))
    twice = {site.name for site in found if sum(site.name == s.name for s in found) > 1}
    if twice:
        raise ValueError(
            f"site named twice: {', '.join(sorted(twice))}; for both sides of a module take two inhibitors"
        )
    return found


def _middle(blocks: list[Site], place: str) -> list[Site]:
    count = {"middle-2": 2, "middle-third": max(1, round(len(blocks) / 3)), "all": len(blocks)}[place]
    start = max(0, (len(blocks) - count) // 2)  # of 12 blocks: 5, 6 (W25's Mid-2); 4 to 7 (W24's four)
    return blocks[start : start + count]


def _is_pair(site) -> bool:
    return isinstance(site, tuple) and len(site) == 2 and site[1] in ("input", "output")


def _one(model: nn.Module, site) -> Site:
    module, side = site if _is_pair(site) else (site, "output")
    names = {id(m): name for name, m in model.named_modules(remove_duplicate=True)}
    if isinstance(module, nn.Module):
        if id(module) not in names:
            raise ValueError(f"the {type(module).__name__} given as a site is not a part of the model")
        return Site(names[id(module)], module, side)
    if not isinstance(module, str):
        raise ValueError(f"a site is {module!r}; expected a module, its name, or one of {', '.join(PLACES)}")
    name, _, wanted = module.partition(":")
    side = wanted or side
    modules = dict(model.named_modules())
    if name not in modules or side not in ("input", "output"):
        near = difflib.get_close_matches(name, [n for n in modules if n], n=3, cutoff=0.3)
        raise ValueError(f"the model has no site {module!r}" + (f"; near it: {', '.join(near)}" if near else ""))
    return Site(name, modules[name], side)
