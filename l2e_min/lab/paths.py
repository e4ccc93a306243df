"""Where the book keeps its things: shipped data, recorded results, build output."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout (the folder that holds README.md)."""

DATA = Path(os.environ.get("L2E_DATA", ROOT / "data"))
"""What ships: claims, mini models, recorded results."""

BUILD = Path(os.environ.get("L2E_BUILD", ROOT / "_build"))
"""What is made and never committed: rendered pages, caches, fresh results."""


def results_folder() -> Path:
    """Where a chapter writes what it measured.

    A reader's run writes below ``_build`` so that the checkout stays clean; ``make chapters`` sets ``L2E_RESULTS`` to
    ``data/results`` and so refreshes the ledger.
    """
    return Path(os.environ.get("L2E_RESULTS", BUILD / "results"))
