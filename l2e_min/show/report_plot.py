"""What an inhibitor reports, as pictures: over the steps of a training run, and by depth."""

import math
from collections.abc import Sequence

from l2e_min.lab.errors import UserError
from l2e_min.report import Report
from l2e_min.show.style import COLOURS, new_figure

PANELS = {
    "share": "share selected in %",
    "tau": "threshold τ",
    "variance": "median S²",
    "dead": "dead neurons in %",
}
"""Numbers of a row that are drawn -> the label of their axis."""


def report_over_steps(history: Sequence[tuple[int, Report]], share: float | None = None):
    """A figure with a line a site: share, threshold, S^2 and dead neurons over the steps.

    history: (step, ``inhibitor.report()``) in the order of training. share: the wanted one, drawn as a dashed line.
    UserError where there is nothing to draw.
    """
    seen = [(step, report) for step, report in history if report.rows]
    if not seen:
        raise UserError("no report has a row: an inhibitor that has seen no training batch has nothing to draw")
    sites = list(dict.fromkeys(row["site"] for _, report in seen for row in report.rows))
    fig, axes = new_figure(2, 2, height=5.0, sharex=True)
    for (key, label), ax in zip(PANELS.items(), axes.flat, strict=True):
        for number, site in enumerate(sites):
            points = [(step, shown(row, key)) for step, report in seen for row in report.rows if row["site"] == site]
            ax.plot(*zip(*points, strict=True), **_line(number, len(sites)), label=site)
        _scale(ax, key)
        ax.set_title(label, fontsize=10.5)
    if share is not None:
        axes[0, 0].axhline(100 * share, color=COLOURS[6], ls="--", lw=1)
    for ax in axes[1]:
        ax.set_xlabel("step")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    few = slice(None) if len(sites) <= 6 else slice(0, None, len(sites) - 1)  # else the first and the last
    fig.legend(handles[few], labels[few], loc="outside lower center", ncols=2, fontsize=9.5)
    return fig


def report_by_site(report: Report):
    """A figure of one report with a bar a site, first to last: the same four numbers. UserError for an empty report."""
    if not report.rows:
        raise UserError("the report has no row: the inhibitor has seen no training batch yet")
    places = range(len(report.rows))
    fig, axes = new_figure(1, 4, height=1.6 + 0.24 * len(report.rows), sharey=True)
    for (key, label), ax in zip(PANELS.items(), axes, strict=True):
        ax.barh(places, [shown(row, key) for row in report.rows], color=COLOURS[0])
        _scale(ax, key, "x")
        ax.tick_params(axis="x", labelsize=8)
        ax.set_title(label.replace(" in %", "\nin %").replace(" ", "\n", 1), fontsize=9)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(places, [row["site"] for row in report.rows], fontsize=8.5)
    axes[0].invert_yaxis()
    return fig


def shown(row: dict, key: str) -> float:
    """A number of a row as it is drawn: shares in %, NaN where a logarithm would be minus infinity."""
    if key == "share":
        return 100 * row["share"]
    if key == "dead":
        return 100 * row["dead"] / row["neurons"]
    return row[key] if row[key] > 0 else math.nan


def _scale(ax, key: str, axis: str = "y") -> None:
    if key == "variance":  # what matters is how many times smaller it became
        getattr(ax, f"set_{axis}scale")("log")
        ax.minorticks_off()
    else:
        getattr(ax, f"set_{axis}lim")(**{"bottom" if axis == "y" else "left": 0})


def _line(number: int, count: int) -> dict:
    """Colours of their own for up to six sites; for more, one colour that deepens with depth."""
    if count <= 6:
        return {"color": COLOURS[number], "lw": 1.6}
    return {"color": COLOURS[0], "lw": 1.2, "alpha": 0.25 + 0.75 * number / (count - 1)}
