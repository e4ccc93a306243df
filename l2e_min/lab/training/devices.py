"""On what a run computes. The training loop speaks to this class alone; one device is the simplest case."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from l2e_min.lab.mini_bert import is_bert
from l2e_min.lab.training.checkpoint import restore
from l2e_min.lab.training.objective import token_loss, tokens_asked
from l2e_min.lab.training.recipe import PretrainSettings

BACKEND = "inductor"
"""What compiles, where ``compile`` is asked for."""


class Devices:
    """One device. ``ManyDevices`` does the same on several, of which this process is number ``rank`` of ``count``."""

    rank, count = 0, 1

    def __init__(self, settings: PretrainSettings):
        self.settings, self.device = settings, settings.device
        self.scaler = torch.amp.GradScaler(settings.device, enabled=settings.precision == "fp16")

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def own_rows(self, step: int) -> list[tuple[int, int]]:
        """(position, number) of the rows that this process reads in a step, counted from 1: one entry a piece.

        The rows of a step are cut into pieces, and each piece into equal shares. So the joint step is the same on any
        number of devices.
        """
        batch, pieces = self.settings.batch, self.settings.accumulate
        share = batch // (pieces * self.count)
        start = (step - 1) * batch
        return [(start + (piece * self.count + self.rank) * share, share) for piece in range(pieces)]

    def prepare(self, model: nn.Module) -> None:
        """Makes the model ready for training; its optimizer is made after this."""
        if self.settings.activation_checkpointing:
            # Transformers' new name for it, and the one before 5.23.
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        if self.settings.compile:
            layers = blocks(model)
            # All blocks are one piece of code to the compiler, which gives up on code that it meets in too many forms.
            limit = torch._dynamo.config.recompile_limit
            torch._dynamo.config.recompile_limit = max(limit, 4 * len(layers))
            for layer in layers:  # one by one: they are alike, so most are compiled once for all
                layer.compile(backend=BACKEND)

    def eager(self) -> contextlib.AbstractContextManager:
        """Within the block nothing is compiled: for a first batch, which makes what later ones find, and for a look."""
        return torch.compiler.set_stance("force_eager") if self.settings.compile else contextlib.nullcontext()

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """``token_loss`` of this process's rows."""
        if not model.training:  # not worth a compilation of its own
            with self.eager():
                return token_loss(model, inputs, targets, self.settings)
        return token_loss(model, inputs, targets, self.settings)

    def weights(self, targets: Sequence[Tensor]) -> list[float | Tensor]:
        """What the mean loss of each piece counts for, so that the mean over devices of their sum is the joint loss."""
        if not is_bert(self.settings.size):  # every token is asked for
            return [1 / len(targets)] * len(targets)
        asked = torch.stack([tokens_asked(piece) for piece in targets]).float()  # (pieces,)
        return list(asked * self.count / self.sum(asked.sum()))

    def loss_scale(self) -> float | Tensor:
        """What an inhibitor has to multiply a gradient by that it adds in the backward pass of a piece."""
        # get_scale() would wait for the device.
        scale = self.scaler._get_scale_async() if self.scaler.is_enabled() else 1.0
        return scale / self.settings.accumulate

    def piece(self, last: bool) -> contextlib.AbstractContextManager:
        """Around the forward and backward pass of a piece; gradients are exchanged in the last."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clip(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        """Clips the gradients together; their norm before."""
        return nn.utils.clip_grad_norm_(parameters, self.settings.clip)

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
        """Takes the optimizer's step with clipped gradients; their norm before clipping."""
        self.scaler.unscale_(optimizer)
        norm = self.clip(model.parameters())
        self.scaler.step(optimizer)
        self.scaler.update()
        return norm

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, on all of them."""
        return tensor

    def gather(self, thing: Any) -> list[Any]:
        """All processes' things, in the order of their ranks."""
        return [thing]

    def main_first(self) -> contextlib.AbstractContextManager:
        """Within the block the main process goes first, and the others find the files it has written."""
        return contextlib.nullcontext()

    def state_of(self, target: Any) -> Any:
        """``target.state_dict()`` with whole tensors."""
        return target.state_dict()

    def restore(self, name: str, target: Any, tree: Any) -> None:
        """Gives ``target`` what ``state_of`` took."""
        restore(name, target, tree)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model, first to last."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(max(lists, key=len))
