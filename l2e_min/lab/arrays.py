"""The arrays behind a chapter's figures, kept beside its results so that a test can compare two runs.

A notebook's comparison never looks at pictures; it is these numbers that a change must not move unnoticed.
"""

import json

import numpy as np

from l2e_min.lab.paths import results_folder


def keep(chapter: str, **arrays) -> None:
    """Writes ``results_folder()/figures/<chapter>.json``: nested lists and dictionaries of finite numbers.

    Numbers are kept to four significant digits, more than two machines agree on. ValueError: a NaN or an infinity.
    """
    path = results_folder() / "figures" / f"{chapter}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: _plain(value, name) for name, value in sorted(arrays.items())}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _plain(value, name: str):
    if isinstance(value, dict):
        return {str(key): _plain(part, f"{name}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part, name) for part in value]
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{name} holds {number}; a figure's array needs finite numbers")
    return float(f"{number:.4g}")
