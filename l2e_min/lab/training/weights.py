"""Weights on the disk, as Hugging Face writes them."""

from pathlib import Path

from torch import nn

from l2e_min.lab.loading import no_bars
from l2e_min.lab.training.checkpoint import sync
from l2e_min.lab.training.devices import Devices


def save_model(devices: Devices, model: nn.Module, folder: Path, variant: str | None = None) -> None:
    """Writes the weights to ``folder``, beside the config."""
    weights = devices.state_of(model) if devices.count > 1 else None
    if devices.main:
        with no_bars():
            model.save_pretrained(folder, state_dict=weights, variant=variant)


def save_snapshot(devices: Devices, model: nn.Module, folder: Path, step: int) -> None:
    """Writes the weights to ``folder/model.stepN.safetensors``, beside the config.

    The name is a "variant" of Hugging Face's: ``load_model(folder, variant="step64")`` reads it.
    """
    save_model(devices, model, folder, variant=f"step{step}")
    if devices.main:
        sync(folder / f"model.step{step}.safetensors")
