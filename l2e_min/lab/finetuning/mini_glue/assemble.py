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
    group: Callable[[int], Hashable],
    fits: Callable[[int, int], bool],
    salt: str,
) -> list[Row]:
    """Each A with its own B (label 1) and with another's (label 0), each B too: neither side alone tells the label.

    pairs: (piece that gives the source, A, B). group(i): wrong partners come from the same group. fits(i, j): whether
    B of j is a wrong partner for A of i. Pairs for which no wrong partner is left take no part.
    """
    wrong = deranged([group(i) for i in range(len(pairs))], fits, rng_of(salt, "wrong"))
    found: list[Row] = []
    for i, j in wrong.items():
        piece, first, second = pairs[i]
        found += [(first, second, 1, piece.source), (first, pairs[j][2], 0, piece.source)]
    return found


def deranged(groups: Sequence[Hashable], fits: Callable[[int, int], bool], rng: np.random.Generator) -> dict[int, int]:
    """A permutation of items inside their groups in which every i -> j fits; items that find no place are left out."""
    members = defaultdict(list)
    for i, name in enumerate(groups):
        members[name].append(i)
    wrong: dict[int, int] = {}
    for items in members.values():
        order = [items[k] for k in rng.permutation(len(items))]
        to = dict(zip(order, order[1:] + order[:1], strict=True))
        for i in order:  # mend by trading partners
            for k in rng.permutation(len(order))[: 0 if fits(i, to[i]) else 200]:
                other = order[k]
                if fits(i, to[other]) and fits(other, to[i]):
                    to[i], to[other] = to[other], to[i]
                    break
        while bad := next((i for i in to if not fits(i, to[i])), None):  # leave out: the one before takes its partner
            before = next(i for i in to if to[i] == bad)
            to[before] = to[bad]
            del to[bad]
        wrong.update(to)
    return wrong
