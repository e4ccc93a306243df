"""A model whose tensors are spread over processes (FSDP2): making it, and going to whole tensors and back."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def shard_model(root: nn.Module, blocks: Sequence[nn.Module]) -> None:
    """Spreads the parameters of every block, and of what is left in ``root``, over all processes; in place."""
    from torch.distributed.fsdp import fully_shard

    for block in blocks:
        fully_shard(block)
    fully_shard(root)


def whole(tree: Any, *, keep: bool = True) -> Any:
    """A ``state_dict``-like tree with whole tensors. All processes must call it; without ``keep`` nothing is held.

    Tensors that were spread come back on the CPU, one after another: of a large model no device has room for all.
    """
    if isinstance(tree, DTensor):
        tensor = tree.full_tensor()
        return tensor.cpu() if keep and tensor.ndim else tensor if keep else None
    if isinstance(tree, dict):
        return {key: whole(value, keep=keep) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [whole(value, keep=keep) for value in tree]
    return tree


def sharded_like(target: Any, tree: dict) -> dict:
    """Whole tensors of ``target.state_dict()`` in the shape that ``target`` (a model or an optimizer) loads."""
    if isinstance(target, torch.optim.Optimizer):
        parameters = [p for group in target.param_groups for p in group["params"]]
        state = {
            number: {name: _like(parameters[number], value) for name, value in entries.items()}
            for number, entries in tree["state"].items()
        }
        return {**tree, "state": state}
    if isinstance(target, nn.Module):
        now = target.state_dict()
        return {name: _like(now[name], value) if name in now else value for name, value in tree.items()}
    return tree


def _like(place: Tensor, value: Any) -> Any:
    if isinstance(place, DTensor) and isinstance(value, Tensor) and value.shape == place.shape:
        return distribute_tensor(value.to(place.device), place.device_mesh, place.placements)
    return value
