"""sts (STS-B's kind): how near do two sentences stand, from 0 (other packages) to 4 (neighbours)?"""

import itertools
from collections import defaultdict

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, rng_of, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Piece, Pieces
from l2e_min.lab.finetuning.task import Task

GRADES = 5
MOST = 18  # words of a sentence: two fit into a row
NEAR = 1  # paragraphs apart that two neighbours may stand


def sts(pieces: Pieces) -> Task:
    """Every A stands once in every grade, and every B at most once: neither side alone tells the grade."""
    split = {}
    for part, found in by_part(pieces.sentences).items():
        short = [piece for piece in found if piece.text.count(" ") < MOST]
        split[part] = rows(graded(short, SIZES[part] // GRADES, part), f"sts/{part}", regression=True)
    return Task(
        "sts", "nearness", "regression", "spearman", (), **split, like="STS-B",
        about="Two sentences and how near they stood: 4 one after the other, 3 in one file, 2 in one folder, 1 in one "
        "package, 0 in two packages. Every first sentence stands once in every grade.",
    )  # fmt: skip


def grade(a: Piece, b: Piece) -> int:
    """How near two sentences of different couples stand, from 0 to 3."""
    if a.package != b.package:
        return 0
    if a.folder != b.folder:
        return 1
    return 2 if a.source != b.source else 3


def graded(pieces: list[Piece], most: int, part: str) -> list[tuple[str, str, float, str]]:
    """Rows (A, B, grade, source). A and its neighbour B (grade 4) are a couple; in the lower grades A stands with the
    B of another couple, each B once a grade. A couple without a partner in some grade takes no part as A.
    """
    rng = rng_of("sts", part)
    couples = [pair if rng.random() < 0.5 else pair[::-1] for pair in neighbours(pieces)]
    couples = [couples[i] for i in rng.permutation(len(couples))]
    shared = defaultdict(list)  # numbers of the couples by file, folder, package, and all
    for k, (_, b) in enumerate(couples):
        for name in (b.source, b.folder + "/", b.package, ""):
            shared[name].append(k)
    used: set[tuple[int, int]] = set()
    found = []
    for number, (a, _) in enumerate(couples):
        partners = {4: number}
        for g, name in ((3, a.source), (2, a.folder + "/"), (1, a.package), (0, "")):
            free = [k for k in shared[name] if k != number and (g, k) not in used and grade(a, couples[k][1]) == g]
            if free:
                partners[g] = free[rng.integers(len(free))]
        if len(partners) == GRADES:
            used.update(partners.items())
            found += [(a.text, couples[k][1].text, float(g), a.source) for g, k in partners.items()]
        if len(found) >= most * GRADES:
            break
    return found


def neighbours(pieces: list[Piece]) -> list[tuple[Piece, Piece]]:
    """Pairs of sentences one after the other, in one paragraph or two that touch; no sentence is in two pairs."""
    couples, files = [], defaultdict(list)
    for piece in pieces:
        files[piece.source].append(piece)
    for group in files.values():
        group, taken = sorted(group, key=lambda piece: (piece.where, piece.place)), None
        for a, b in itertools.pairwise(group):
            next_to = b.place == a.place + 1 if a.where == b.where else b.where - a.where <= NEAR and b.place == 0
            if next_to and a is not taken:
                couples.append((a, b))
                taken = b
    return couples
