"""What a fine-tuning step costs: every method's step does its own work, and the ratios are those of the turns."""

import json
import time

import pytest
import torch

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning import cost as c

TINY = c.Shape("tiny", 32, 2, batch=4, tokens=8, repeats=4)


def test_every_step_trains_and_wakes_its_own_inhibitor_alone(monkeypatch):
    attached, real = [], c.Method.attach
    monkeypatch.setattr(c.Method, "attach", lambda self, encoder: attached.append(real(self, encoder)) or attached[-1])
    model = c.encoder_of(TINY)
    calls = c.steps(model, c.inputs_of(TINY, "cpu"), c.METHODS)
    inhibitors = dict(zip(c.METHODS, attached, strict=True))
    assert inhibitors["plain"] is None and list(calls) == list(c.METHODS)
    for name, call in calls.items():
        before = [p.clone() for p in model.parameters()]
        counts = {other: batches(i) for other, i in inhibitors.items() if i is not None}
        call()
        assert any(not torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
        for other, count in counts.items():
            assert batches(inhibitors[other]) == count + (1 if other == name else 0), (name, other)
    assert inhibitors["memel, entry"].neuron_axes == 2 and inhibitors["memel, k = 100"].retrieval.k == 100


def batches(inhibitor) -> int:
    found = {int(state.moments.batches) for state in inhibitor.states.values()} or {0}
    assert len(found) == 1
    return found.pop()


def test_ratios_are_taken_turn_by_turn():
    middle, low, high, milliseconds, turns = c.ratio([2.0, 4.0, 6.0], [1.0, 4.0, 2.0, 9.0])
    assert (middle, low, high, milliseconds, turns) == (2, 1, 3, 4000, 3)


def test_the_clock_counts_what_the_process_computes():
    """Not the time in which it waits, as it does while others have the processor."""
    times = []
    c.clocked(lambda: time.sleep(0.2), times)
    c.clocked(lambda: sum(range(10**6)), times)
    assert times[0] < 0.05 and times[1] > 0.002
    old = {name: 1 for name in ("parameters", "batch", "tokens", "threads", "ratio", "low", "high")}
    assert c.Row("a", **old, device="cpu", method="plain", milliseconds=1, turns=3).clock == "wall"  # older records


def test_a_measurement_and_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(c, "SHAPES", (TINY,))
    out = tmp_path / "cost.json"
    assert c.main(["--models", "tiny", "--out", str(out)]) == 0
    rows = c.read(out)
    assert [row.method for row in rows] == list(c.METHODS) and rows[0].ratio == rows[0].low == rows[0].high == 1
    assert all(row.milliseconds > 0 and row.turns >= 3 and row.clock == "cpu" for row in rows)
    assert "memel, k = 100" in capsys.readouterr().out and str(tmp_path) not in out.read_text()
    assert json.loads(out.read_text())["versions"]["torch"] == torch.__version__


def test_bad_input_is_one_line(tmp_path, capsys):
    assert c.main(["--out", str(tmp_path / "no" / "cost.json")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    with pytest.raises(UserError, match="makes it"):
        c.read(tmp_path / "none.json")


def test_shapes_are_those_of_the_models():
    base = next(shape for shape in c.SHAPES if shape.title == "BERT-base")
    assert (base.hidden, base.layers) == (768, 12)
    with torch.device("meta"):
        assert sum(p.numel() for p in c.encoder_of(base).parameters()) == pytest.approx(109e6, rel=0.01)
