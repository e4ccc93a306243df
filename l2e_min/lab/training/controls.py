"""Controls that stand beside inhibition: pairs drawn at random, and MLPs that are changed instead of inhibited."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from l2e_min import RunningMoments
from l2e_min.distributed import joint, processes
from l2e_min.fused import batch_sums
from l2e_min.lab.errors import UserError
from l2e_min.sites import Site
from l2e_min.state import recomputing

SHRINK = 0.1
"""What ``shrunk`` multiplies by: S^2 falls a hundredfold, as it did under the penalty of weight 0.003 to 0.01, and GELU
is nearly linear over what is left."""

REMEMBERED = 10
"""Batches that ``mean_replaced`` remembers, as the inhibitor does (W24 C.1)."""


class RandomPairs(nn.Module):
    """A share of all pairs, drawn afresh for every batch from torch's generator; phi is not looked at."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, phi: Tensor) -> Tensor:
        return torch.rand(phi.shape, device=phi.device) < self.share


def first_half(model: nn.Module, site: Site) -> tuple[nn.Linear, nn.Module, str]:
    """Of the MLP whose second linear layer is ``site``: the first, and where its non-linearity is: (module, name)."""
    parts = site.name.split(".")
    parent = model.get_submodule(".".join(parts[:-1]))
    if hasattr(parent, "dense_h_to_4h"):  # a Pythia
        return parent.dense_h_to_4h, parent, "act"
    block = model.get_submodule(".".join(parts[:-2]))
    if hasattr(block, "intermediate"):  # a BERT
        return block.intermediate.dense, block.intermediate, "intermediate_act_fn"
    raise UserError(f"the MLPs of {type(model).__name__} are not known here; expected a Pythia or a BERT")


def make_linear(model: nn.Module, sites: Sequence[Site]) -> None:
    """Takes the non-linearity away. It is not in the weights: see ``methods.load_run``."""
    for site in sites:
        _, owner, name = first_half(model, site)
        setattr(owner, name, nn.Identity())


def make_zero(sites: Sequence[Site]) -> None:
    """Sets the second linear layers to zero for good: they learn nothing, and the saved model is what was trained."""
    for site in sites:
        for parameter in site.module.parameters():
            nn.init.zeros_(parameter)
            parameter.requires_grad_(False)


def make_small(model: nn.Module, sites: Sequence[Site]) -> "Shrunk":
    """Multiplies what the first linear layers give by ``SHRINK``."""
    return Shrunk([first_half(model, site)[0] for site in sites])


class Shrunk:
    """Layers whose output is multiplied by ``SHRINK``."""

    def __init__(self, layers: Sequence[nn.Module]):
        self.layers = layers
        self.handles = [layer.register_forward_hook(lambda _m, _i, output: output * SHRINK) for layer in layers]

    @torch.no_grad()
    def bake(self) -> None:
        """Puts the factor into the weights and takes the hooks off: the model computes the same without this class."""
        for handle in self.handles:
            handle.remove()
        for layer in self.layers:
            for parameter in layer.parameters():
                parameter.mul_(SHRINK)


@torch.no_grad()
def take_in(moments: RunningMoments, values: Tensor) -> None:
    """Moves moments by a batch of values (tokens, N), where several processes share it by the joint one."""
    centre = moments.centre(values)
    n, sums = len(values), batch_sums(values, centre)
    if processes() > 1:
        n, _, sums = joint(n, torch.zeros((), device=values.device), sums, centre - moments.mean)
        centre = moments.mean
    moments.update_from_sums(n, sums, centre)


class MeanReplaced(nn.Module):
    """MLPs that give the running mean of their own output, the same on every token.

    The gradient is that of the batch's mean, so the MLPs learn which constant to give; on several devices it is that of
    each device's own batch. ``state_dict`` holds the means.
    """

    def __init__(self, model: nn.Module, sites: Sequence[Site]):
        super().__init__()
        self.means = nn.ModuleList(RunningMoments(site.module.out_features, REMEMBERED) for site in sites)
        self.to(next(model.parameters()).device)
        self._layers = [site.module for site in sites]  # in a list: they are the model's modules, not this one's
        self._seen: list[Tensor | None] = [None] * len(sites)  # what a recomputed forward pass must see again
        self._handles = [layer.register_forward_hook(self._hook(number)) for number, layer in enumerate(self._layers)]

    def _hook(self, number: int):
        def replace(layer: nn.Module, _inputs, output: Tensor) -> Tensor:
            moments = self.means[number]
            flat = output.reshape(-1, output.shape[-1])  # (tokens, d)
            batch_mean = flat.mean(0)
            if layer.training and not recomputing():
                there, before = moments.count > 0, moments.mean.clone()
                take_in(moments, flat.detach())
                self._seen[number] = torch.where(there, before, moments.mean)
            value = self._seen[number] if layer.training else moments.mean
            # value + (batch_mean - sg(batch_mean)): the bracket is 0 forward, so all tokens get exactly the mean.
            constant = value.to(output.dtype) + (batch_mean - batch_mean.detach())
            return constant.expand_as(output)

        return replace

    @torch.no_grad()
    def bake(self) -> None:
        """Puts the means into the biases and takes the hooks off: the model computes the same without this class."""
        for handle in self._handles:
            handle.remove()
        for layer, moments in zip(self._layers, self.means, strict=True):
            layer.weight.zero_()
            layer.bias.copy_(moments.mean)
