"""sts (STS-B's kind): how near do two sentences stand, from 0 (other packages) to 5 (neighbours)?"""

import itertools
from collections import defaultdict

from l2e_min.lab.finetuning.mini_glue.assemble import SIZES, by_part, rng_of, rows
from l2e_min.lab.finetuning.mini_glue.pieces import Piece, Pieces, shuffled
from l2e_min.lab.finetuning.task import Task

GRADES = 6
MOST = 18  # words of a sentence: two fit into a row
NEAR = 3  # paragraphs apart that still count as near


def sts(pieces: Pieces) -> Task:
    """Grades stand in equal number; a sentence is on either side once a grade at most."""
    split = {}
    for part, found in by_part(pieces.sentences).items():
        short = shuffled([piece for piece in found if piece.text.count(" ") < MOST], "sts")
        split[part] = rows(graded(short, SIZES[part] // GRADES, part), f"sts/{part}", regression=True)
    return Task(
        "sts", "nearness", "regression", "spearman", (), **split, like="STS-B",
        about="Two sentences and how near they stood: 5 next to each other in a paragraph, 4 in paragraphs close by, "
        "3 in one file, 2 in one folder, 1 in one package, 0 in two packages.",
    )  # fmt: skip


def grade(a: Piece, b: Piece) -> int | None:
    """How near two sentences stand; None where it is neither near nor far (one paragraph, but not neighbours)."""
    if a.package != b.package:
        return 0
    if a.folder != b.folder:
        return 1
    if a.source != b.source:
        return 2
    if a.where != b.where:
        return 4 if abs(a.where - b.where) <= NEAR else 3
    return 5 if abs(a.place - b.place) == 1 else None


def graded(pieces: list[Piece], most: int, part: str) -> list[tuple[str, str, float, str]]:
    """Rows (A, B, grade, source): each chosen pair of neighbours gives one row of every grade.

    A is a sentence of the pair, B of grade 5 its neighbour; B of the lower grades are the neighbours of other chosen
    pairs, each once a grade as far as the text allows. So A is the same for all grades and B nearly.
    """
    rng = rng_of("sts", part)
    inside = defaultdict(list)
    for piece in pieces:
        inside[piece.source, piece.where].append(piece)
    couples = []
    for group in inside.values():
        group = sorted(group, key=lambda piece: piece.place)
        for a, b in itertools.pairwise(group):
            if b.place == a.place + 1:
                couples.append((a, b) if rng.random() < 0.5 else (b, a))
                break
    couples = [couples[i] for i in rng.permutation(len(couples))]
    kinds = defaultdict(list)  # which couples may give B of a grade: looked up by what they share with A
    for k, (_, b) in enumerate(couples):
        for name in (b.source, b.folder, b.package, ""):
            kinds[name].append(k)
    used: dict[int, set[int]] = {g: set() for g in range(GRADES)}
    found = []
    for a, own in couples:
        partners = {5: own}
        for g, name in ((4, a.source), (3, a.source), (2, a.folder), (1, a.package), (0, "")):
            fit = (k for k in rng.permutation(kinds[name]) if k not in used[g] and grade(a, couples[k][1]) == g)
            k = next(fit, None)
            if k is None:
                break
            partners[g] = k
        if len(partners) == GRADES:
            for g, k in partners.items():
                if g < 5:
                    used[g].add(k)
                b = own if g == 5 else couples[k][1]
                found.append((a.text, b.text, float(g), a.source))
        if len(found) >= most * GRADES:
            break
    return found
