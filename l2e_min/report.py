"""What an inhibitor says of itself: a row a site."""

from dataclasses import dataclass

import torch

COLUMNS = {
    "site": "site",
    "neurons": "neurons",
    "batches": "batches",
    "skipped": "skipped",
    "share": "share",
    "tau": "tau",
    "variance": "median S²",
    "dead": "dead",
    "constant": "constant",
    "top": "top φ",
    "kurtosis": "mean φ²",
}
"""Key of a row -> heading of its column. A column that no row has is left out."""

DEAD = 1e-4
"""A neuron is called dead whose variance is below this part of its site's mean variance [our choice]: its values move
by less than a hundredth of what its neighbours' move by, and no weight of usual size behind it makes up for that."""


@dataclass(frozen=True)
class Report:
    """Rows of plain numbers, one a site; prints as a table.

    ``neurons``: their number at the site, the size of its last axis, or of the last ``neuron_axes`` together.
    ``batches``: training batches seen. ``skipped``: batches left out for a NaN or an infinity. ``share``: selected part
    of the last batch's pairs. ``tau``: the threshold, that is the MS which the wanted share of pairs exceeds; NaN for
    top-k. ``variance``: median S^2 over the neurons, in squared units of the activations. ``dead``: neurons whose S^2
    is below ``DEAD`` times the site's mean; a neuron that died is counted some hundred batches later, when the moments
    have forgotten it (with the default ``forget_after``). ``constant``: neurons whose variance is zero to rounding.

    With a batch to look at, two numbers more, by that batch's own moments (see :mod:`l2e_min.fresh`). ``top``: mean
    over its inputs of the site's largest phi. ``kurtosis``: mean phi^2 over all pairs, 3 for Gaussian values.
    """

    rows: list[dict]

    def __str__(self) -> str:
        if not self.rows:
            return "The inhibitor has not seen a training batch yet."
        shown = [key for key in COLUMNS if any(key in row for row in self.rows)]
        table = [[COLUMNS[key] for key in shown]]
        table += [[_text(row.get(key, "")) for key in shown] for row in self.rows]
        widths = [max(len(line[i]) for line in table) for i in range(len(shown))]
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
        "neurons": moments.n_neurons,
        "batches": int(moments.batches),
        "skipped": int(moments.skipped),
        "share": float(state.share),
        "tau": float("nan") if tau is None else float(tau),
        "variance": float(moments.var.median()),
        "dead": int((moments.var <= DEAD * moments.var.mean()).sum()),
        "constant": int((moments.var <= tiny).sum()),
    }


def _text(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
