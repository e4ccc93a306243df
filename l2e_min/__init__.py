"""Find monosemantic neurons while a network trains, and inhibit them.

A minimal implementation of *Learning from Emergence* (W24, method MEmeL, arXiv:2312.11560) and *Learning Towards
Emergence* (W25, method L2E, arXiv:2503.23298). One file here stands beside one section of the papers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2e_min.inhibition import deactivate, ms_penalty
    from l2e_min.inhibitor import Inhibitor
    from l2e_min.moments import RunningMoments
    from l2e_min.monosemanticity import (
        false_killing_rate,
        feature_scores,
        ks_statistic,
        monosemantic_scale,
        relative_feature,
    )
    from l2e_min.retrieval import MovingThreshold, TopK

__version__ = "0.1.0"

__all__ = [
    "Inhibitor",
    "MovingThreshold",
    "RunningMoments",
    "TopK",
    "deactivate",
    "false_killing_rate",
    "feature_scores",
    "ks_statistic",
    "monosemantic_scale",
    "ms_penalty",
    "relative_feature",
]

_HOME = {
    "Inhibitor": "inhibitor",
    "MovingThreshold": "retrieval",
    "RunningMoments": "moments",
    "TopK": "retrieval",
    "deactivate": "inhibition",
    "false_killing_rate": "monosemanticity",
    "feature_scores": "monosemanticity",
    "ks_statistic": "monosemanticity",
    "monosemantic_scale": "monosemanticity",
    "ms_penalty": "inhibition",
    "relative_feature": "monosemanticity",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562), so that `l2e --help` need not wait for torch."""
    if name in _HOME:
        return getattr(import_module(f"l2e_min.{_HOME[name]}"), name)
    raise AttributeError(f"module 'l2e_min' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
