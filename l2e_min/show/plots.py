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
