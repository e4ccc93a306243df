"""An encoder with a head that answers a task: from ``[CLS]`` as BERT does, or from means over the words."""

import torch
from torch import Tensor, nn

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_bert import load_encoder, untrained_encoder

HEADS = ("mean", "cls")
"""Where the answer is read. "cls": the first token, as in W24 and all of BERT's fine-tuning. "mean": the mean over a
sentence's tokens. Pretraining never trains a mini BERT's first token, and there means are 8 points better."""


class Classifier(nn.Module):
    """An encoder and a linear head. ``n_outputs``: classes, or 1 for a regression; ``pair``: whether rows are pairs."""

    def __init__(self, encoder: nn.Module, n_outputs: int, *, pair: bool, head: str = "mean", dropout: float = 0.1):
        super().__init__()
        if head not in HEADS:
            raise UserError(f"no such head: {head!r}; expected one of {', '.join(HEADS)}")
        if head == "cls" and getattr(encoder, "pooler", None) is None:
            raise UserError("the head 'cls' needs an encoder with a pooler; take the head 'mean'")
        self.encoder, self.head, self.pair = encoder, head, pair
        self.dropout = nn.Dropout(dropout)
        width = encoder.config.hidden_size
        self.out = nn.Linear(width * (4 if pair and head == "mean" else 1), n_outputs)
        nn.init.normal_(self.out.weight, std=0.02)  # BERT's; more would begin with answers, and wrong ones
        nn.init.zeros_(self.out.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Logits (batch, n_outputs), float32, of token ids (batch, tokens)."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        if self.head == "cls":
            features = output.pooler_output  # (batch, d)
        else:
            hidden = output.last_hidden_state  # (batch, tokens, d)
            u = mean_over(hidden, attention_mask * (token_type_ids == 0))
            features = u
            if self.pair:
                v = mean_over(hidden, attention_mask * (token_type_ids == 1))
                features = torch.cat([u, v, (u - v).abs(), u * v], 1)  # (batch, 4 d)
        return self.out(self.dropout(features)).float()


def mean_over(hidden: Tensor, mask: Tensor) -> Tensor:
    """(batch, d): the mean of ``hidden`` (batch, tokens, d) where ``mask`` (batch, tokens) is 1; 0 if it never is."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp_min(1)


def build_classifier(model: str, n_outputs: int, *, pair: bool, head: str, seed: int, pretrained: bool = True):
    """(classifier, tokenizer) on the encoder in a folder or ``hub:NAME``; the head is drawn from ``seed``.

    ``pretrained=False``: the same architecture with random weights, the control. Touches no global random state.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for a pooler that the model lacks
        encoder, tokenizer = load_encoder(model, pooler=head == "cls")
        torch.manual_seed(seed)
        if not pretrained:  # a new one: `_init_weights` leaves what has been loaded as it is
            encoder = untrained_encoder(encoder)
        return Classifier(encoder, n_outputs, pair=pair, head=head), tokenizer
