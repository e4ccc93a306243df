"""sts (STS-B's kind): how near do two sentences stand, from 0 (other packages) to 3 (neighbours)?"""

import itertools
from collections import defaultdict

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, codes, deranged, rng_of, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Piece, Pieces
from l2e_min.lab.finetuning.task import Task

GRADES = 4
MOST = 18  # words of a sentence: two fit into a row
NEAR = 1  # paragraphs apart that two neighbours may stand


def sts(pieces: Pieces) -> Task:
    """Every A and every B stands once in every grade: neither side alone tells it."""
    split = {}
    for part, found in by_part(pieces.sentences).items():
        short = [piece for piece in found if piece.text.count(" ") < MOST]
        split[part] = rows(graded(short, SIZES[part] // GRADES, part), f"sts/{part}", regression=True)
    return Task(
        "sts", "nearness", "regression", "spearman", (), **split, like="STS-B",
        about="Two sentences and how near they stood: 3 one after the other, 2 in one file, 1 in one package, "
        "0 in two packages. Every sentence stands once in every grade.",
    )  # fmt: skip


def graded(pieces: list[Piece], most: int, part: str) -> list[tuple[str, str, float, str]]:
    """Rows (A, B, grade, source). A and its neighbour B (grade 3) are a couple. In each lower grade every A stands with
    the B of another couple, every B once; couples that find no partner in some grade are left out.
    """
    rng = rng_of("sts", part)
    couples = [pair if rng.random() < 0.5 else pair[::-1] for pair in neighbours(pieces)]
    couples = [couples[i] for i in rng.permutation(len(couples))]
    while True:
        partners = lower_grades([a for a, _ in couples], rng)
        placed = [i for i in range(len(couples)) if all(i in found for found in partners)]
        if len(placed) == len(couples) <= most:
            break
        couples = [couples[i] for i in placed[: most if len(placed) == len(couples) else None]]
    found = [(a.text, b.text, 3.0, a.source) for a, b in couples]
    for level, partner in enumerate(partners):
        found += [(a.text, couples[partner[i]][1].text, float(level), a.source) for i, (a, _) in enumerate(couples)]
    return found


def lower_grades(places: list[Piece], rng) -> list[dict[int, int]]:
    """Partners i -> j of the grades 0 to 2, by where they stand: in other packages, other files of one, in one file."""
    package, file = (codes([getattr(piece, name) for piece in places]) for name in ("package", "source"))
    return [
        deranged([0] * len(places), lambda i, j: package[i] != package[j], rng),
        deranged(package.tolist(), lambda i, j: file[i] != file[j], rng),
        deranged(file.tolist(), lambda i, j: i != j, rng),
    ]


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
