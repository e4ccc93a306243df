"""Drawings that several chapters share."""

import numpy as np

from l2e_min.show.style import COLOURS

OWN, OTHER = COLOURS[1], COLOURS[6]  # a neuron's own feature, and everything else


def strip(ax, z, labels, features: list[str], highlight: int | None = None) -> None:
    """One dot a text, one row a feature: values ``z`` (n,) with ``labels`` (n,); the highlighted feature in colour."""
    z, labels = np.asarray(z), np.asarray(labels)
    for feature in range(len(features)):
        rows = labels == feature
        jitter = np.random.default_rng(feature).uniform(-0.3, 0.3, rows.sum())  # so that dots do not hide each other
        ax.plot(z[rows], feature + jitter, ".", ms=3.5, alpha=0.6, color=OWN if feature == highlight else OTHER)
    ax.set_yticks(range(len(features)), features)
    ax.set_xlabel("value of the neuron (mean over the text's tokens)")
    ax.grid(axis="y", visible=False)


def on_and_off(ax, z, on, bins, name: str, others: str) -> None:
    """Two histograms of ``z`` (n,), in % of each group: where ``on`` (n,) is true, and elsewhere.

    Values beyond the bins are counted in the outermost ones.
    """
    z, on = np.clip(np.asarray(z), bins[0], bins[-1]), np.asarray(on)
    for rows, colour, label in ((~on, OTHER, others), (on, OWN, name)):
        share = np.full(rows.sum(), 100 / rows.sum())
        ax.hist(z[rows], bins, weights=share, color=colour, alpha=0.65, label=label)
    ax.set_ylabel("% of the texts")


def estimates(ax, x, measurements, colour: str, mark: str = "o", label: str | None = None) -> None:
    """Values with their intervals: one ``Measurement`` (value, low, high) at each ``x``."""
    value, low, high = np.array([(m.value, m.low, m.high) for m in measurements]).T
    ax.errorbar(x, value, [value - low, high - value], fmt=mark, color=colour, capsize=4, label=label)


def over_scales(ax, points: dict, colour: str, mark: str = "o", label: str | None = None) -> None:
    """Values against model size: every seed as a thin line, their mean at each scale as a mark.

    points: seed -> (log10 of the parameters, values), as ``lab.study.trends.points`` gives them.
    """
    for x, y in points.values():
        ax.plot(10**x, y, color=colour, lw=0.8, alpha=0.6)
    sizes = np.unique(np.concatenate([x for x, _ in points.values()]))
    means = [np.mean([y[x == size] for x, y in points.values() if size in x]) for size in sizes]
    ax.plot(10**sizes, means, mark, color=colour, label=label)
    ax.set_xscale("log")
    ax.set_xticks(10**sizes, [short(size) for size in 10**sizes])
    ax.minorticks_off()


def short(number: float) -> str:
    """A count with two digits and its unit: 91k, 1.1M, 6.9B."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.2g}{name}" if number < 10 * unit else f"{number / unit:.0f}{name}"
    return f"{number:.0f}"
