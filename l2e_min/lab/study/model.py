"""All measures of one model: its loss on held-out text, and W25 section 3 on each feature dataset."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab.errors import UserError
from l2e_min.lab.measure import token_ids, value_batches
from l2e_min.lab.study.ablation import text_losses
from l2e_min.lab.study.dataset import observe
from l2e_min.lab.study.measures import measures
from l2e_min.lab.study.switched_off import switched_off
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.features import PROSE, FeatureDataset, rows_of

LOSS_ROWS, LOSS_BYTES = 800, 128
"""Held-out text that gives a model's loss: 100 kB. No row of 128 bytes is longer than a mini model's 128 tokens."""


def study_model(
    model,
    tokenizer,
    datasets: Sequence[FeatureDataset],
    held_out: Sequence[str],
    *,
    random_neurons: int = 1000,
    seed: int = 0,
    off: bool = True,
    matrix: bool = True,
    **stream_options,
) -> dict:
    """Plain JSON: ``parameters``, ``bits_per_byte`` on ``held_out`` texts, and ``datasets``: name -> measures.

    ``off``: also switch neurons off, which costs some three more passes over the texts; ``matrix``: each feature's
    neurons against the loss on every feature, some four more. Other options as for ``observe``. Raises ``UserError`` as
    ``observe`` does, and for a model that is no causal language model.
    """
    batch_size, found = stream_options.get("batch_size", 64), {}
    loss = bits_per_byte(model, tokenizer, held_out, batch_size)
    check_causal(model)
    for data in datasets:
        seen = observe(model, tokenizer, data, random_neurons=random_neurons, seed=seed, **stream_options)
        found[data.name] = measures(seen, seed=seed)
        if off:
            means_are_there = stream_options.get("aggregate", "mean") == "mean"
            at = None if means_are_there else token_means(model, tokenizer, data.texts, batch_size)
            progress = stream_options.get("progress", True)
            found[data.name] |= switched_off(
                model, tokenizer, seen, at=at, seed=seed, matrix=matrix, batch_size=batch_size, progress=progress
            )
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bits_per_byte": loss,
        "datasets": found,
    }


def bits_per_byte(model, tokenizer, texts: Sequence[str], batch_size: int = 64) -> float:
    """Loss in bits per byte of the text that is predicted: it compares models with different tokenizers.

    The first token is predicted by nothing, so its bytes do not count; where it marks the beginning, it has none. Nor
    do those beyond the model's context.
    """
    losses, _ = text_losses(model, tokenizer, texts, batch_size=batch_size)
    n_bytes, whole = 0, tokenizer(list(texts))["input_ids"]
    for text, ids, all_ids in zip(texts, token_ids(model, tokenizer, texts), whole, strict=True):
        seen = text if len(ids) == len(all_ids) else tokenizer.decode(ids, skip_special_tokens=True)
        n_bytes += len(seen.encode()) - len(tokenizer.decode(ids[:1], skip_special_tokens=True).encode())
    return losses.sum().item() / math.log(2) / n_bytes


@torch.no_grad()
def check_causal(model) -> None:
    """Raises ``UserError`` where a token changes what is predicted before it: BERT loads as a language model, too."""
    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=next(model.parameters()).device)
    training = model.training
    model.eval()
    logits = model(input_ids=ids, use_cache=False).logits.float()  # (2, 3, V)
    model.train(training)
    difference = (logits[0] - logits[1]).abs().amax(1)  # (3,)
    if difference[:2].max() > 1e-3 * difference[2]:
        raise UserError(f"{type(model).__name__} sees the tokens that it predicts; expected a causal language model")


def token_means(model, tokenizer, texts: Sequence[str], batch_size: int) -> Tensor:
    """(layers * neurons,) float64: the mean value of every neuron over the texts, each the mean over its tokens."""
    sums = [z.double().sum(0) for _, z in value_batches(model, tokenizer, texts, batch_size=batch_size, progress=False)]
    return torch.stack(sums).sum(0).flatten() / len(texts)


def held_out_rows(text: str = "installed", n: int = LOSS_ROWS, seed: int = 0) -> list[str]:
    """``n`` rows of the corpus' validation text, drawn at random over all of it; fewer where it is shorter."""
    rows = [row for d in load_corpus(text).validation for row, _ in rows_of([d], LOSS_BYTES, d.family in PROSE)]
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:n]]
