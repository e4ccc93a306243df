"""Which texts repeat each other: near-duplicate files, and windows of text that two collections share.

Everything rests on one hash for each window of consecutive bytes, computed for a whole document at once in NumPy.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

WINDOW = 40
"""Two texts overlap where they share this many consecutive bytes (so any shared 40 characters are found)."""

OWNERS, COMPARED = 64, 8
"""Of near-duplicates: texts remembered for a shingle, and earlier texts that each text is compared with."""

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_MIX = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(32)
_FILTER_BITS = 26  # 64 MB of flags: about 7 % of other windows pass them and are looked up exactly
_POWERS: list[np.ndarray] = [np.ones(1, np.uint64), np.ones(1, np.uint64)]


def window_hashes(data: bytes, window: int = WINDOW) -> np.ndarray:
    """A 64-bit hash of every `window` consecutive bytes: (max(len(data) - window + 1, 0),) uint64."""
    n = len(data) - window + 1
    if n <= 0:
        return np.zeros(0, np.uint64)
    power, inverse = _powers(len(data))
    terms = (np.frombuffer(data, np.uint8).astype(np.uint64) + np.uint64(1)) * power[: len(data)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
    hashes = (sums[window:] - sums[:-window]) * inverse[:n]  # sum of byte_j * base^(j - i), modulo 2^64
    hashes ^= hashes >> _SHIFT
    hashes *= _MIX
    return hashes ^ (hashes >> _SHIFT)


def _powers(length: int) -> list[np.ndarray]:
    if len(_POWERS[0]) < length:
        for slot, base in enumerate((_BASE, pow(_BASE, -1, 2**64))):
            steps = np.full(2 * length, base, np.uint64)
            steps[0] = 1
            _POWERS[slot] = np.cumprod(steps, dtype=np.uint64)
    return _POWERS


def near_duplicates(texts: Sequence[str], jaccard: float = 0.7, shingle: int = 24, rate: int = 64) -> list[int]:
    """Indices of the texts that repeat an earlier one: the same text, or Jaccard above `jaccard` on byte shingles.

    The Jaccard index is estimated on one shingle hash in `rate` (more in short texts), the same ones in every text.
    Each text is compared with the earlier ones that share most of its shingles.
    """
    owners: dict[int, list[int]] = {}
    sketches: dict[int, tuple[frozenset[int], int]] = {}
    exact: set[str] = set()
    repeated = []
    for index, text in enumerate(texts):
        sketch = _sketch(text, shingle, rate)
        hits = Counter(other for value in sketch[0] for other in owners.get(value, ()))
        # Most documents share a licence header with many others: below 3 in 10 shingles a look is not worth its time.
        near = [other for other, shared in hits.most_common(COMPARED) if shared > 0.3 * len(sketch[0])]
        if text in exact or any(_jaccard(sketch, sketches[other]) > jaccard for other in near):
            repeated.append(index)
            continue
        exact.add(text)
        sketches[index] = sketch
        for value in sketch[0]:
            known = owners.setdefault(value, [])
            if len(known) < OWNERS:  # a shingle of many texts tells none of them apart
                known.append(index)
    return repeated


def _sketch(text: str, shingle: int, rate: int) -> tuple[frozenset[int], int]:
    """The sampled shingles of a text and the bound below which they lie."""
    hashes = window_hashes(text.encode(), shingle)
    # Of 400 sampled shingles the estimate is good to .02; short documents keep more than one in `rate` to have them.
    bound = (2**64 - 1) // max(1, min(rate, len(hashes) // 400))
    return frozenset(hashes[hashes <= np.uint64(bound)].tolist()), bound


def _jaccard(first: tuple[frozenset[int], int], second: tuple[frozenset[int], int]) -> float:
    bound = min(first[1], second[1])  # both sampled alike: the sparser sample of the two
    shared = sum(value <= bound for value in first[0] & second[0])
    either = sum(value <= bound for value in first[0] | second[0])
    return shared / max(1, either)


def distinct(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The distinct values of several uint64 arrays, sorted. (Here a sort is five times as fast as `np.unique`.)"""
    values = np.sort(np.concatenate([np.zeros(0, np.uint64), *parts]))
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


class WindowIndex:
    """A set of windows, quick to ask for those of a large text. `texts`: what to index."""

    def __init__(self, texts: Iterable[str], window: int = WINDOW):
        self.window = window
        parts = [window_hashes(text.encode(), window) for text in texts]
        self.values = distinct(parts)
        self._flags = np.zeros(1 << _FILTER_BITS, bool)
        self._flags[self.values >> np.uint64(64 - _FILTER_BITS)] = True

    def shared(self, text: str) -> np.ndarray:
        """The indexed windows that occur in `text`, as sorted hashes."""
        hashes = window_hashes(text.encode(), self.window)
        hashes = distinct([hashes[self._flags[hashes >> np.uint64(64 - _FILTER_BITS)]]])
        places = np.minimum(np.searchsorted(self.values, hashes), len(self.values) - 1)
        return hashes[self.values[places] == hashes] if len(self.values) else hashes[:0]


def overlapping(rows: Sequence[str], texts: Iterable[str], window: int = WINDOW) -> np.ndarray:
    """Which rows share a window of `window` bytes with any of `texts`: (len(rows),) bool.

    Ask it before you trust a feature dataset of your own with a model trained on a text of your own.
    """
    index = WindowIndex(rows, window)
    seen = distinct([index.shared(text) for text in texts])
    return np.array([bool(np.isin(window_hashes(row.encode(), window), seen).any()) for row in rows], dtype=bool)


def cut_out(text: str, bad: np.ndarray, window: int = WINDOW, shortest: int = 64) -> list[str]:
    """The pieces of `text` left when every window whose start is flagged in `bad` is taken out. bad: (windows,) bool.

    A piece begins at the beginning of a line, so that nothing starts inside a token; pieces below `shortest` bytes go.
    """
    data = text.encode()
    if not bad.any():
        return [text] if len(data) >= shortest else []
    steps = np.zeros(len(data) + 1, np.int64)
    starts = np.flatnonzero(bad)
    np.add.at(steps, starts, 1)
    np.add.at(steps, starts + window, -1)
    edges = np.flatnonzero(np.diff(np.concatenate([[1], np.cumsum(steps)[:-1] > 0, [1]])))
    pieces = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if start > 0:  # begin at a new line
            line = data.find(b"\n", start - 1, end)
            start = end if line < 0 else line + 1
        if end - start >= shortest:
            pieces.append(data[start:end].decode(errors="ignore"))
    return pieces
