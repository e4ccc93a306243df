"""The loss on held-out text."""

import math

import torch
from torch import nn

from l2e_min.lab.mini_bert import is_bert
from l2e_min.lab.training.devices import Devices
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.training_text import TrainingText


@torch.no_grad()
def validate(
    model: nn.Module,
    text: TrainingText,
    settings: PretrainSettings,
    rows: int | None = None,
    devices: Devices | None = None,
) -> dict[str, float]:
    """Loss in nats a token, and bits per byte, on a fixed, evenly spread sample of the held-out text.

    ``rows`` of ``context`` tokens each (default: ``validation_rows``). Bits per byte can be compared between
    tokenizers, nats a token cannot; of a BERT, which is asked for a fifth of the tokens, there are none.
    """
    devices = devices or Devices(settings)
    training = model.training
    model.eval()
    total, numbers = 0.0, text.validation.spread(rows or settings.validation_rows)
    for start in range(0, len(numbers), settings.batch):
        inputs, targets = text.validation.rows(numbers[start : start + settings.batch])
        loss = devices.loss(model, inputs.to(devices.device), targets.to(devices.device))
        total += loss.item() * len(inputs)
    model.train(training)
    losses = {"validation_loss": total / len(numbers)}
    if not is_bert(settings.size):
        nats_a_byte = losses["validation_loss"] / text.summary["validation_bytes_per_token"]
        losses["validation_bits_per_byte"] = nats_a_byte / math.log(2)
    return losses
