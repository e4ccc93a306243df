"""Checks of chapter 1: a detector's F1 and its threshold."""

import numpy as np

from l2e_min.lab.exercises.checking import as_number, call, exercise, must, number


@exercise("ex-always-yes")
def always_yes(answer) -> str:
    """F1 of the detector that says yes to every text."""
    hints = {
        "ee803c05bfad7b29": "that is the precision of this detector; its recall is 1, and F1 lies between the two",
        "29852bfd80123874": "that is its recall; what is its precision?",
        "10b3a41c5b3f65e3": "that is the plain mean of precision and recall; F1 is their harmonic mean",
    }
    number("ex-always-yes", answer, "7451a8d729fdfc11", 2, hints)
    return "compare it with the shuffled labels in the figure above"


@exercise("ex-threshold")
def threshold(best_threshold) -> str:
    """The threshold of the highest F1, against scikit-learn's curve over all thresholds."""
    from sklearn.metrics import f1_score, precision_recall_curve

    rng = np.random.default_rng(7)
    for rows, share, shift in ((40, 0.5, 1.5), (300, 0.1, 2.0), (300, 0.1, 0.3), (11, 0.2, -1.0)):
        on = np.arange(rows) < max(2, int(share * rows))
        z = rng.standard_normal(rows).round(2) + shift * on
        shuffled = rng.permutation(rows)
        on, z = on[shuffled], z[shuffled]
        before = z.copy(), on.copy()
        found = as_number(call(best_threshold, z, on))
        must(
            np.array_equal(z, before[0]) and np.array_equal(on, before[1]), "your function changes z or on; take a copy"
        )
        precision, recall, _ = precision_recall_curve(on, z)
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        reached = f1_score(on, z > found, zero_division=0.0)
        if reached < best - 1e-9:
            case = f"on {rows} texts with {int(on.sum())} of the feature"
            equal = f1_score(on, z >= found, zero_division=0.0)
            must(
                equal < best - 1e-9, f"nearly: {case} it is right for z >= threshold; a text counts where z > threshold"
            )
            must(False, f"{case} your threshold reaches F1 {reached:.3f}, another one {best:.3f}")
    return "no other threshold has a higher F1, on any of four sets"
