"""From labelled rows to a task: sizes, order, and wrong partners that use every sentence as often as the right ones."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.mini_glue.pieces import ORDER, Piece
from l2e_min.lab.finetuning.task import Rows

SIZES = {"train": 5000, "dev": 800, "test": 1600}
"""Rows asked for; a task takes fewer where the text gives no more. 1,600 rows tell 2.5 points from chance."""

Row = tuple[str, str | None, float, str]
"""First sentence, second sentence or None, label, source."""

Fits = Callable[[int, np.ndarray], np.ndarray]
"""fits(i, j): which of the items j (k,) may follow item i, (k,) bool."""


def rng_of(*salt: str) -> np.random.Generator:
    """Random numbers that depend on these words alone."""
    return np.random.default_rng(list("/".join(salt).encode()))


def by_part(pieces: Sequence[Piece]) -> dict[str, list[Piece]]:
    """The pieces of each part of the split."""
    split: dict[str, list[Piece]] = {part: [] for part in ORDER}
    for piece in pieces:
        split[piece.part].append(piece)
    return split


def rows(found: Sequence[Row], salt: str, regression: bool = False) -> Rows:
    """The rows of one split, in an order that the salt alone decides. Raises UserError where there are none."""
    if len(found) < 2:
        raise UserError(f"too little text for the task {salt}: {len(found)} rows; give a corpus with more docstrings")
    found = [found[i] for i in rng_of(salt, "order").permutation(len(found))]
    first, second, labels, sources = zip(*found, strict=True)
    labels = np.array(labels, dtype=np.float64 if regression else np.int64)
    return Rows(first, None if second[0] is None else second, labels, sources)


def right_and_wrong(
    pairs: Sequence[tuple[Piece, str, str]],
    group: Sequence[Hashable],
    fits: Fits,
    salt: str,
) -> list[Row]:
    """Each A with its own B (label 1) and with another's (label 0), each B too: neither side alone tells the label.

    pairs: (piece that gives the source, A, B). group: wrong partners come from the same group. fits(i, j): which
    B of the numbers j are wrong partners for A of i. Pairs for which no wrong partner is left take no part.
    """
    wrong = deranged(group, fits, rng_of(salt, "wrong"))
    found: list[Row] = []
    for i, j in wrong.items():
        piece, first, second = pairs[i]
        found += [(first, second, 1, piece.source), (first, pairs[j][2], 0, piece.source)]
    return found


def deranged(groups: Sequence[Hashable], fits: Fits, rng: np.random.Generator) -> dict[int, int]:
    """A permutation of items inside their groups in which every i -> j fits; items that find no place are left out.

    A maximum matching of bipartite graphs: those left without a partner go, and the others are matched again.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    members = defaultdict(list)
    for i, name in enumerate(groups):
        members[name].append(i)
    wrong: dict[int, int] = {}
    for items in members.values():
        left = np.array(items)[rng.permutation(len(items))]
        while len(left):
            columns = rng.permutation(left)
            allowed = np.array([fits(i, columns) & (columns != i) for i in left])  # (k, k)
            to = maximum_bipartite_matching(csr_array(allowed), perm_type="column")  # (k,): -1 without a partner
            if (to >= 0).all():
                wrong.update(zip(left.tolist(), columns[to].tolist(), strict=True))
                break
            left = left[to >= 0]
    return wrong


def codes(values: Sequence[Hashable]) -> np.ndarray:
    """(n,) int64: equal numbers for equal values."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
