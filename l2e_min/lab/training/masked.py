"""Masked language modelling, BERT's pretraining: some tokens are hidden, the model says which they were."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2e_min.lab.training.blocks import Blocks

HIDDEN_SHARE = 0.2
"""Share of the tokens to predict. BERT's 0.15; a mini model learns faster from more, and 0.2 keeps most of a row."""

NOT_ASKED = -100
"""The target of a token that is not to be predicted: what PyTorch's cross-entropy leaves out."""


class MaskedBlocks(Blocks):
    """Rows ``[CLS] tokens [SEP]`` of ``context`` tokens in all, with hidden tokens, and what stood there.

    Of the tokens drawn, 80 % become ``[MASK]``, 10 % another token and 10 % stay (BERT). The draws depend on ``seed``
    and on the row's place in the order, so that a resumed run sees the same; validation rows always hide the same.
    """

    def __init__(self, stream: np.ndarray, context: int, tokenizer, seed: int = 0):
        super().__init__(stream, context - 2, seed)
        self.mask, self.start, self.end = tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
        self.special, self.vocabulary = np.array(sorted(tokenizer.all_special_ids)), len(tokenizer)

    def read(self, position: int, n: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (n, context), int64, of the rows that come ``position`` rows after the start."""
        places = [divmod(at, self.n_blocks) for at in range(position, position + n)]
        rows = [self.order(epoch)[offset] for epoch, offset in places]
        return self.hide(rows, [[self.seed, epoch, int(row)] for (epoch, _), row in zip(places, rows, strict=True)])

    def rows(self, rows) -> tuple[Tensor, Tensor]:
        """Inputs and targets (n, context), int64, of the rows with these numbers, hidden the same way every time."""
        return self.hide(rows, [[int(row)] for row in rows])

    def hide(self, rows, seeds: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Inputs and targets (n, context), int64; each row draws from its own entry of ``seeds``."""
        tokens = super().rows(rows)[0].numpy()  # (n, context - 2)
        inputs, targets = tokens.copy(), np.full_like(tokens, NOT_ASKED)
        for row, seed in enumerate(seeds):
            draws = np.random.default_rng(seed).random((3, tokens.shape[1]))
            asked = (draws[0] < HIDDEN_SHARE) & ~np.isin(tokens[row], self.special)
            targets[row, asked] = tokens[row, asked]
            inputs[row, asked & (draws[1] < 0.8)] = self.mask
            other = asked & (draws[1] >= 0.9)
            inputs[row, other] = (draws[2, other] * self.vocabulary).astype(np.int64)
        edge = np.ones((len(tokens), 1), np.int64)
        inputs = np.concatenate([edge * self.start, inputs, edge * self.end], 1)
        targets = np.concatenate([edge * NOT_ASKED, targets, edge * NOT_ASKED], 1)
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def masked_loss(model: nn.Module, inputs: Tensor, targets: Tensor, autocast: torch.autocast) -> Tensor:
    """Mean cross-entropy in nats a hidden token; ``inputs`` and ``targets`` are (batch, context)."""
    with autocast:
        hidden = model.bert(input_ids=inputs).last_hidden_state  # (batch, context, d)
        asked = targets != NOT_ASKED
        logits = model.cls(hidden[asked])  # (asked, vocabulary): the head on hidden tokens only, a fifth of the work
    return F.cross_entropy(logits.float(), targets[asked])
