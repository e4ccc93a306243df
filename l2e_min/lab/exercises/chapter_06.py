"""Checks of chapter 6: one value a row, how many seeds, and the largest of many Gaussian values."""

import math

import torch
from scipy import stats

from l2e_min.lab.exercises.checking import NotYet, as_number, call, described, exercise, must, number


@exercise("ex-top-value")
def top_value(function) -> str:
    """One True a row, at the largest phi that does not stand on padding."""
    g = torch.Generator().manual_seed(19)
    for rows, positions, dims, padded in ((5, 7, 4, False), (1, 3, 6, False), (6, 5, 8, True), (3, 9, 2, True)):
        phi = torch.randn(rows, positions, dims, generator=g).square()
        lengths = torch.randint(1, positions, (rows, 1), generator=g) if padded else torch.full((rows, 1), positions)
        real = torch.arange(positions) < lengths  # (rows, positions)
        phi[~real] *= 50
        before = phi.clone(), real.clone()
        found = call(function, phi, real)
        must(torch.equal(phi, before[0]) and torch.equal(real, before[1]), "your function changes phi or real")
        must(
            isinstance(found, torch.Tensor) and found.dtype == torch.bool and found.shape == phi.shape,
            f"a boolean tensor of shape {tuple(phi.shape)}, as phi, is wanted, this is {described(found)}"
            + (f" and {found.dtype}" if isinstance(found, torch.Tensor) else ""),
        )
        _one_a_row(found)
        must(not found[~real].any(), "in one of the rows it selects a value on padding")
        must(
            all(row[yes].item() == row[there].max() for row, yes, there in zip(phi, found, real, strict=True)),
            f"one value a row, but not the largest: rows of {positions} positions and {dims} dimensions",
        )
    return "one value a row, the largest, and never on padding"


def _one_a_row(mask: torch.Tensor) -> None:
    """NotYet unless each row has exactly one True."""
    rows, positions, dims = mask.shape
    counts = mask.flatten(1).sum(1)
    must(rows == 1 or mask.sum() != 1, "one value of the whole batch is selected; W24's rule takes one of *every* row")
    if positions != dims and (counts == positions).all():
        raise NotYet("one value a position is selected; a row's positions compete with one another")
    if positions != dims and (counts == dims).all():
        raise NotYet("one value a dimension is selected; a row's dimensions compete with one another")
    wrong = (counts != 1).nonzero().flatten().tolist()
    must(not wrong, f"{counts[wrong[0]] if wrong else 0} values of a row are selected; one is wanted")


@exercise("ex-power")
def power(seeds_needed) -> str:
    """The fewest seeds at which the half width falls below the gain."""
    for half, seeds, gain in ((0.9, 3, 0.2), (0.5, 5, 0.4), (1.7, 5, 0.6), (0.1, 5, 3.0)):
        spread = half * math.sqrt(seeds) / stats.t.ppf(0.975, seeds - 1)

        def half_width(n, spread=spread) -> float:
            return float(stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n))

        found = as_number(call(seeds_needed, half, seeds, gain))
        case = f"half width {half} with {seeds} seeds, gain {gain}"
        must(found == int(found), f"{case}: a whole number of seeds is wanted, yours is {found:g}")
        must(found >= 2, f"{case}: an interval over seeds needs at least two, yours is {found:g}")
        right = next(n for n in range(2, 10_000) if half_width(n) < gain)
        if found == right:
            continue
        if found == max(2, math.ceil(seeds * (half / gain) ** 2)):
            raise NotYet(f"{case}: the factor t falls as well when n grows; yours keeps the one of {seeds} seeds")
        if found == max(2, math.ceil((1.96 * spread / gain) ** 2)):
            raise NotYet(f"{case}: 1.96 is the factor of a Gaussian with a *known* spread; take t with n - 1")
        if found < right:
            raise NotYet(f"{case}: with {found:g} seeds the half width would still be {half_width(int(found)):.3g}")
        raise NotYet(f"{case}: one seed less than yours gives {half_width(int(found) - 1):.3g} already")
    return "the fewest, in four cases"


@exercise("ex-largest-of-many")
def largest_of_many(answer) -> str:
    """Chance that the largest of 2,560 squared Gaussians exceeds 16."""
    hints = {
        "c3d24ce44c4531e7": "that is how many such values a row has on average; a row may have two of them",
        "5a916c852f665e3c": "phi is large on both sides of the mean",
        "03352cde9391a519": "that is the share of rows without such a value",
        "98c0a96bb6c56727": "that is the share of *values*; a row has 2,560 of them",
    }
    number("ex-largest-of-many", answer, "9592854ab3c6a3f3", 2, hints)
    return "nothing monosemantic is needed for it"
