"""The numbers behind the figures: those that ship agree with those just measured.

``make test`` runs this after it has run the chapters into ``_build``.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from l2e_min.lab.arrays import keep

ROOT = Path(__file__).resolve().parents[1]
TIMES = {"cost_exponent"}  # a time differs from run to run; its rule is judged in the chapter
SHIPPED, FRESH = ROOT / "data" / "results", ROOT / "_build" / "results"


def leaves(content, name=""):
    """Every number of nested dictionaries and lists, by its place."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        return {k: v for key, part in pairs for k, v in leaves(part, f"{name}/{key}").items()}
    return {name: content}


@pytest.mark.parametrize("shipped", sorted((SHIPPED / "figures").glob("*.json")), ids=lambda path: path.stem)
def test_arrays_behind_the_figures(shipped):
    fresh = FRESH / "figures" / shipped.name
    assert fresh.is_file(), "the chapters have not been run into _build; make book does it"
    then, now = (leaves(json.loads(path.read_text())) for path in (shipped, fresh))
    assert then.keys() == now.keys()
    for place, number in then.items():
        # Another processor moves an F1 by a text or two and a log ratio in its third digit.
        assert now[place] == pytest.approx(number, rel=0.05, abs=0.03), place


@pytest.mark.parametrize("shipped", sorted(SHIPPED.glob("[BC][0-9][0-9].json")), ids=lambda path: path.stem)
def test_recorded_results_are_measured_again(shipped):
    fresh = FRESH / shipped.name
    assert fresh.is_file(), "the chapters have not been run into _build; make book does it"
    then, now = (json.loads(path.read_text())["measurements"] for path in (shipped, fresh))
    for name in then.keys() - TIMES:
        measured = then[name]
        width = measured["high"] - measured["low"]
        tolerance = max(0.5 * width, 0.05 * abs(measured["value"]), 1e-9)
        assert abs(now[name]["value"] - measured["value"]) <= tolerance, name


def test_keep_refuses_what_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setenv("L2E_RESULTS", str(tmp_path))
    keep("some_chapter", a=np.array([1.23456, 2]), b={"x": [3]})
    assert json.loads((tmp_path / "figures" / "some_chapter.json").read_text()) == {
        "a": [1.235, 2.0],
        "b": {"x": [3.0]},
    }
    with pytest.raises(ValueError, match="a holds nan"):
        keep("some_chapter", a=[float("nan")])
