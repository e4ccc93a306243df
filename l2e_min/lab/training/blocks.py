"""Documents as one stream of tokens, and the seeded order in which training reads it."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.paths import BUILD

ENCODE_AT_ONCE = 256
"""Documents handed to the tokenizer in one call: enough to amortize the call, little enough to show progress."""


def encode_stream(tokenizer, texts: Sequence[str], *, progress: bool = False, cache: bool = True) -> np.ndarray:
    """All texts as one stream of token ids (n_tokens,), each followed by the end-of-text token.

    uint16 where the vocabulary allows it, else int32. Kept below ``_build/tokens`` under a hash of the tokenizer and of
    the texts.
    """
    from tqdm.auto import tqdm

    digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8", "replace")).digest())
    kept = BUILD / "tokens" / f"{digest.hexdigest()[:32]}.npy"
    if cache and kept.is_file():
        return np.load(kept, allow_pickle=False)
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    pieces = []
    for start in tqdm(range(0, len(texts), ENCODE_AT_ONCE), desc="tokens", disable=not progress, leave=False):
        batch = [t.encode("utf-8", "replace").decode() for t in texts[start : start + ENCODE_AT_ONCE]]
        for ids in tokenizer.backend_tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            pieces.append(np.array([*ids.ids, tokenizer.eos_token_id], dtype=kind))
    stream = np.concatenate(pieces) if pieces else np.zeros(0, kind)
    if cache:
        save_array(kept, stream)
    return stream


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array so that a killed run leaves either all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)
    os.replace(temporary, path)


class Blocks:
    """A token stream cut into rows of ``context`` inputs with their targets, read in an order drawn from ``seed``.

    The order depends on the stream, ``context`` and ``seed`` alone, never on the model or the batch size, so that all
    scales read the same text in the same order (B23). Every row is read once before any is read again.
    """

    def __init__(self, stream: np.ndarray, context: int, seed: int = 0):
        self.n_blocks = (len(stream) - 1) // context
        if self.n_blocks < 1:
            raise UserError(f"the text has {len(stream)} tokens; expected more than the context of {context}")
        self.stream, self.context, self.seed = stream, context, seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of the rows in an epoch, (n_blocks,)."""
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, epoch]).permutation(self.n_blocks))
        return self._order[1]

    def read(self, position: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets (n, context), int64, of the rows that come ``position`` rows after the start."""
        rows = []
        for at in range(position, position + n):
            epoch, offset = divmod(at, self.n_blocks)
            rows.append(self.order(epoch)[offset])
        return self.rows(np.array(rows))

    def spread(self, n: int) -> list[int]:
        """Up to ``n`` row numbers, evenly spread over the stream: a fixed sample for validation."""
        return np.linspace(0, self.n_blocks - 1, min(n, self.n_blocks)).round().astype(int).tolist()

    def rows(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets (n, context), int64, of the rows with these numbers."""
        starts = np.asarray(rows)[:, None] * self.context  # (n, 1)
        window = self.stream[starts + np.arange(self.context + 1)].astype(np.int64)  # (n, context + 1)
        window = torch.from_numpy(window)
        return window[:, :-1], window[:, 1:]
