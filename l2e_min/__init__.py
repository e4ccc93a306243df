"""Find monosemantic neurons while a network trains, and inhibit them.

A minimal implementation of *Learning from Emergence* (W24, method MEmeL, arXiv:2312.11560) and *Learning Towards
Emergence* (W25, method L2E, arXiv:2503.23298). One file here stands beside one section of the papers.
"""

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
