"""One run on several devices: ``torchrun`` or ``accelerate launch`` starts a process for each, they share every step.

Each process takes its share of a step's rows (``Devices.own_rows``), gradients are averaged, and the main process
writes. With ``shard`` the weights, gradients and Adam's moments are spread over the devices, too (FSDP2); without, each
device has all of them (DDP). A checkpoint is the same file in every case, so a run can go on with more or fewer devices
than it began with. All processes must see the run's folder.
"""

import atexit
import contextlib
import gc
import os
import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, distributed, nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.training.checkpoint import restore
from l2e_min.lab.training.devices import Devices, blocks
from l2e_min.lab.training.objective import Objective
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.sharding import shard_model, sharded_like, whole

STARTED: "weakref.WeakSet[ManyDevices]" = weakref.WeakSet()


def end() -> None:
    """At a process's end: lets go of every wrapped model, and then of the other processes.

    In this order: if the last to hold the process group is DDP's reducer, gloo's threads are waited for with the
    interpreter locked, and one of them may need the interpreter to let go of a tensor. Then the process never ends.
    """
    for devices in STARTED:
        devices.objective = None
        devices.accelerator.free_memory()
    gc.collect()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


class ManyDevices(Devices):
    """Several devices, of which this process has one; see ``Devices`` for what the methods do."""

    def __init__(self, settings: PretrainSettings, *, shard: bool = False):
        from accelerate import Accelerator

        super().__init__(settings)
        # Accelerate shards on GPUs only; done here, it is the same, and tested, on CPUs. Autocast is the objective's.
        os.environ["ACCELERATE_USE_FSDP"] = "false"
        self.accelerator = Accelerator(cpu=settings.device == "cpu", mixed_precision="no")
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.device, self.shard = self.accelerator.device, shard
        STARTED.add(self)
        atexit.register(end)  # registered twice it is called twice; then the second finds nothing to do
        shares = self.count * settings.accumulate
        if settings.batch % shares:
            raise UserError(
                f"a batch of {settings.batch} rows cannot be cut into {shares} equal shares: {self.count} processes "
                f"times {settings.accumulate} pieces (accumulate)"
            )
        if shard and settings.method == "mean_replaced":
            raise UserError("method mean_replaced cannot be sharded; leave out --shard")

    def prepare(self, model: nn.Module) -> None:
        super().prepare(model)
        self.objective = Objective(model, self.settings)
        if self.shard:
            shard_model(self.objective, blocks(model))
        else:
            self.objective = self.accelerator.prepare_model(self.objective)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        if model.training:
            return self.objective(inputs, targets)
        if not self.shard:
            return super().loss(model, inputs, targets)
        with self.eager():
            return self.objective(inputs, targets)

    def piece(self, last: bool) -> contextlib.AbstractContextManager:
        if self.shard:
            self.objective.set_requires_gradient_sync(last)
        elif not last:
            return self.accelerator.no_sync(self.objective)
        return contextlib.nullcontext()

    def clip(self, parameters: Iterable[nn.Parameter]) -> Tensor:
        return whole(self.accelerator.clip_grad_norm_(parameters, self.settings.clip))

    def sum(self, tensor: Tensor) -> Tensor:
        return self.accelerator.reduce(tensor, "sum")

    def gather(self, thing: Any) -> list[Any]:
        from accelerate.utils import gather_object

        return gather_object([thing])

    def main_first(self) -> contextlib.AbstractContextManager:
        return self.accelerator.main_process_first()

    def state_of(self, target: Any) -> Any:
        return whole(target.state_dict(), keep=self.main)

    def restore(self, name: str, target: Any, tree: Any) -> None:
        restore(name, target, sharded_like(target, tree) if tree is not None else None)


def shares_work() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def asks_for_shards() -> bool:
    """Whether ``accelerate launch`` was told to use FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def devices_for(settings: PretrainSettings, *, shard: bool = False) -> Devices:
    """The devices that this process was started for. ``UserError``: shards for a single process."""
    if shares_work():
        return ManyDevices(settings, shard=shard or asks_for_shards())
    if shard:
        raise UserError("one process has nobody to share a model with; --shard is for torchrun or accelerate launch")
    return Devices(settings)
