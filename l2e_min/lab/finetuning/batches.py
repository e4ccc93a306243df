"""A task's rows as batches of token ids: cut to length, padded to the longest of the batch, in a seeded order."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab.finetuning.task import Rows, Task
from l2e_min.lab.measure import pad

GROUPED = 20
"""Batches among which rows are sorted by length: their order stays random, and little of a batch is padding."""


class Encoded:
    """The rows of one split as token ids. ``labels``: (n,) int64 classes, or float32 values in standard units.

    A value's unit is the standard deviation of the training labels, from their mean: one learning rate then fits tasks
    scored from 0 to 5 and from 0 to 1.
    """

    def __init__(self, rows: Rows, tokenizer, task: Task):
        self.most = min(task.max_tokens, tokenizer.model_max_length)  # tokens a row may have
        cut = {"truncation": True, "max_length": self.most}
        texts = [list(rows.first)] if rows.second is None else [list(rows.first), list(rows.second)]
        found = tokenizer(*texts, **cut)
        self.ids, self.types = found["input_ids"], found["token_type_ids"]
        self.lengths = np.array([len(ids) for ids in self.ids])  # (n,)
        if task.kind == "regression":
            known = task.train.labels
            self.labels = torch.from_numpy((rows.labels - known.mean()) / max(known.std(), 1e-12)).float()
        else:
            self.labels = torch.from_numpy(np.asarray(rows.labels, np.int64))

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, index: np.ndarray, pad_to: int | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs, each (b, t), and labels (b,) of the rows ``index``; ``pad_to`` fixes t."""
        ids, mask = pad([self.ids[i] for i in index], pad_to)
        types, _ = pad([self.types[i] for i in index], pad_to)
        inputs = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
        return inputs, self.labels[index]

    def epoch(self, batch: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
        """Row numbers of the batches of an epoch, every row once, rows of similar length together."""
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(len(self))
        batches = []
        for start in range(0, len(order), batch * GROUPED):
            near = order[start : start + batch * GROUPED]
            near = near[np.argsort(self.lengths[near], kind="stable")]
            batches += [near[i : i + batch] for i in range(0, len(near), batch)]
        for number in rng.permutation(len(batches)):
            yield batches[number]

    def in_order(self, batch: int = 128) -> Iterator[np.ndarray]:
        """Row numbers in batches of similar length, for measuring: every row once."""
        order = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(order), batch):
            yield order[start : start + batch]
