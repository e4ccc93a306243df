"""What pretraining minimises: the loss of a batch, for a Pythia or a mini BERT, in the run's precision."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2e_min.lab.mini_bert import is_bert
from l2e_min.lab.training.masked import NOT_ASKED, masked_loss
from l2e_min.lab.training.recipe import PretrainSettings

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that run under autocast."""


def token_loss(model: nn.Module, inputs: Tensor, targets: Tensor, settings: PretrainSettings) -> Tensor:
    """Mean cross-entropy in nats a token of predicting ``targets`` (batch, context) from ``inputs``.

    Targets are the next tokens for a Pythia, the hidden ones for a BERT.
    """
    autocast = torch.autocast(
        settings.device, HALF.get(settings.precision, torch.bfloat16), enabled=settings.precision in HALF
    )
    if is_bert(settings.size):
        return masked_loss(model, inputs, targets, autocast)
    with autocast:
        logits = model(input_ids=inputs, use_cache=False).logits  # (batch, context, vocabulary)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def tokens_asked(targets: Tensor) -> Tensor:
    """How many tokens of ``targets`` are to be predicted, a scalar: what ``token_loss`` divides by."""
    return (targets != NOT_ASKED).sum()


class Objective(nn.Module):
    """``token_loss`` as a module, because what spreads a model over devices works on the call of a module."""

    def __init__(self, model: nn.Module, settings: PretrainSettings):
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return token_loss(self.model, inputs, targets, self.settings)
