"""Training text that is too long to hold: a dataset of the hub, read while training goes on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2e_min.lab import hub
from l2e_min.lab.errors import UserError
from l2e_min.lab.text.document import VALIDATION
from l2e_min.lab.text.own_text import text_column
from l2e_min.lab.text.sources import unit
from l2e_min.lab.training.blocks import ENCODE_AT_ONCE

SHORTEST = 64
"""Characters below which a document is left out, as everywhere in this project."""


class StreamedBlocks:
    """Rows of ``context`` inputs with their targets from a dataset of the hub, in the dataset's own order.

    Documents that ``load_corpus`` holds out are left out here. After its last document the dataset is begun again.
    Rows can only be read forwards; ``state_dict`` says where reading is, so that a resumed run need not start over.
    Every process of a run reads all of the text and keeps its own rows.

    Args:
        name: ``hub:NAME[:config]``.
        tokenizer: a fast Hugging Face tokenizer.
        context: tokens a row.
    """

    def __init__(self, name: str, tokenizer, context: int):
        self.name, self.tokenizer, self.context = name, tokenizer, context
        self.dataset = open_dataset(name)
        self.number = 0  # of the next document in the dataset
        self.position = 0  # of the first row in tokens
        self.tokens = np.zeros(0, np.int32)  # encoded and not read yet
        self.documents: Iterator[dict[str, Any]] | None = None

    def read(self, position: int, n: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (n, context), int64, of the rows that come ``position`` rows after the start."""
        if position < self.position:
            raise ValueError(f"row {position} was asked for after row {self.position - 1}: a stream goes forwards only")
        while self.position < position:  # others' rows
            self.skip(min(position - self.position, 64))
        self.fill(n * self.context + 1)
        window = torch.from_numpy(self.tokens[: n * self.context + 1].astype(np.int64))
        self.skip(n)
        return window[:-1].view(n, self.context), window[1:].view(n, self.context)

    def skip(self, n: int) -> None:
        """Goes past ``n`` rows."""
        self.fill(n * self.context)
        self.tokens = self.tokens[n * self.context :]
        self.position += n

    def fill(self, n_tokens: int) -> None:
        """Encodes documents until at least ``n_tokens`` tokens are there."""
        pieces, there = [self.tokens], len(self.tokens)
        while there < n_tokens:
            for ids in self.tokenizer.backend_tokenizer.encode_batch_fast(self.texts(), add_special_tokens=False):
                pieces.append(np.array([*ids.ids, self.tokenizer.eos_token_id], np.int32))
                there += len(pieces[-1])
        if len(pieces) > 1:
            self.tokens = np.concatenate(pieces)

    def texts(self) -> list[str]:
        """The next documents that are to be learned from, at least one."""
        found, ends = [], 0
        while len(found) < ENCODE_AT_ONCE:
            row = self.next_row()
            if row is None:
                if found:
                    break
                ends += 1
                if ends == 2:
                    raise UserError(f"there is no text to learn from in the training split of {self.name!r}")
                continue
            text, number = row[text_column(row, self.name)], self.number - 1
            held_out = unit(f"{self.name}#{number}", "split") < VALIDATION
            if isinstance(text, str) and len(text) >= SHORTEST and not held_out:
                found.append(text.encode("utf-8", "replace").decode())
        return found

    def next_row(self) -> dict[str, Any] | None:
        """The next row of the dataset; None at its end, after which it begins again."""
        try:
            if self.documents is None:
                self.documents = iter(self.dataset)
            row = next(self.documents, None)
        except Exception as error:  # the hub went away, or a file is broken
            raise hub.trouble(f"read the dataset {self.name} beyond row {self.number}", error) from error
        self.number += 1
        if row is None:
            self.dataset, self.documents, self.number = open_dataset(self.name), None, 0
        return row

    def state_dict(self) -> dict[str, Any]:
        """Where reading is: what the dataset says of itself, and the tokens that are encoded and not read yet."""
        return {
            "dataset": self.dataset.state_dict(),
            "number": self.number,
            "position": self.position,
            "tokens": torch.from_numpy(self.tokens.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where reading was."""
        self.dataset, self.documents = open_dataset(self.name), None
        self.dataset.load_state_dict(state["dataset"])
        self.number, self.position = state["number"], state["position"]
        self.tokens = state["tokens"].numpy()


def open_dataset(name: str):
    """The training split of ``hub:NAME[:config]``, to be streamed. ``UserError`` where it cannot be had."""
    import datasets

    repository, _, config = name.removeprefix("hub:").partition(":")
    try:
        return datasets.load_dataset(repository, config or None, split="train", streaming=True)
    except Exception as error:  # the library raises many kinds
        raise hub.trouble(f"read the dataset {name}", error, here=hub.reachable()) from error
