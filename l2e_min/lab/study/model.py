"""All measures of one model: its loss on held-out text, and W25 section 3 on each feature dataset."""

import math
from collections.abc import Sequence

import numpy as np

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
    **stream_options,
) -> dict:
    """Plain JSON: ``parameters``, ``bits_per_byte`` on ``held_out`` texts, and ``datasets``: name -> measures.

    ``off``: also switch neurons off, which costs some seven more passes over half of the texts. Other options as for
    ``observe``.
    """
    found = {}
    for data in datasets:
        seen = observe(model, tokenizer, data, random_neurons=random_neurons, seed=seed, **stream_options)
        found[data.name] = measures(seen, seed=seed)
        if off:
            batch_size = stream_options.get("batch_size", 64)
            found[data.name] |= switched_off(model, tokenizer, seen, seed=seed, batch_size=batch_size)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bits_per_byte": bits_per_byte(model, tokenizer, held_out),
        "datasets": found,
    }


def bits_per_byte(model, tokenizer, texts: Sequence[str]) -> float:
    """Loss in bits per byte of the text that is predicted: it compares models with different tokenizers."""
    losses, _ = text_losses(model, tokenizer, texts)
    first = [tokenizer.decode(tokenizer(text)["input_ids"][:1]) for text in texts]  # predicted by nothing
    n_bytes = sum(len(text.encode()) for text in texts) - sum(len(text.encode()) for text in first)
    return losses.sum().item() / math.log(2) / n_bytes


def held_out_rows(text: str = "installed", n: int = LOSS_ROWS, seed: int = 0) -> list[str]:
    """``n`` rows of the corpus' validation text, drawn at random over all of it; fewer where it is shorter."""
    rows = [row for d in load_corpus(text).validation for row, _ in rows_of([d], LOSS_BYTES, d.family in PROSE)]
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:n]]
