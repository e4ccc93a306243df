"""What an inhibitor says of itself: a row a site."""

from dataclasses import dataclass

import torch

COLUMNS = {
    "site": "site",
    "batches": "batches",
    "skipped": "skipped",
    "share": "share",
    "tau": "tau",
    "variance": "median S²",
    "constant": "constant",
}


@dataclass(frozen=True)
class Report:
    """Rows of plain numbers, one a site; prints as a table.

    ``share``: selected part of the last batch's pairs. ``tau``: the threshold, NaN for top-k. ``variance``: median S^2
    over the neurons, in squared units of the activations. ``constant``: neurons whose variance is zero to rounding.
    ``skipped``: batches left out for a NaN or an infinity.
    """

    rows: list[dict]

    def __str__(self) -> str:
        if not self.rows:
            return "The inhibitor has not seen a training batch yet."
        table = [list(COLUMNS.values())]
        table += [[_text(row[key]) for key in COLUMNS] for row in self.rows]
        widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table
        )


def site_row(name: str, state) -> dict:
    """One row from an inhibitor's state at one site."""
    moments = state.moments
    tiny = torch.finfo(moments.var.dtype).eps ** 2 * moments.mean.square()  # what rounding alone would leave
    tau = getattr(state.retrieval, "tau", None)
    return {
        "site": name,
        "batches": int(moments.batches),
        "skipped": int(moments.skipped),
        "share": float(state.share),
        "tau": float("nan") if tau is None else float(tau),
        "variance": float(moments.var.median()),
        "constant": int((moments.var <= tiny).sum()),
        "neurons": moments.n_neurons,
    }


def _text(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
