"""The benchmark of a pretraining step: what takes part, what is counted; no test depends on how fast the machine is."""

import json

import numpy as np
import pytest
import torch

from l2e_min import TopK
from l2e_min.__main__ import main
from l2e_min.lab import bench_pretrain as bench
from l2e_min.lab.training import devices
from l2e_min.lab.training.recipe import PretrainSettings

SMALL = {"batch": 2, "context": 16}
PLACE = {"parameters": 1, "device": "cpu", "threads": 1, "mode": "eager", "precision": "bf16", "rounds": 3, **SMALL}
TIMES = {"low": 1.0, "high": 3.0, "milliseconds": 5.0}


def small_steps(compiled=False):
    settings = PretrainSettings(size="16x4", device="cpu", precision="fp32", compile=compiled, **SMALL)
    return bench.ready_steps(settings, seed=0)


def gradient(step):
    """The gradient of all weights on one and the same batch, flat."""
    step.generator.manual_seed(1)
    step.gradients()
    found = torch.cat([p.grad.flatten() for p in step.model.parameters()])
    step.optimizer.zero_grad(set_to_none=True)
    return found


def batches_seen(step):
    return [row["batches"] for row in step.inhibitor.report().rows] if step.inhibitor else None


def check_methods(steps):
    """Each method with an inhibitor sees every batch of its own and no other, and changes the gradient."""
    plain, seen = gradient(steps[bench.PLAIN]), {name: batches_seen(step) for name, step in steps.items()}
    for name, step in steps.items():
        off = ((gradient(step) - plain).norm() / plain.norm()).item()
        if step.inhibitor is None:
            assert name in (bench.PLAIN, bench.AGAIN) and off == 0
        else:
            assert off > 1e-3, name
            seen[name] = [count + 1 for count in seen[name]]
            assert len(seen[name]) == 2, "the two middle layers"
        assert {name: batches_seen(step) for name, step in steps.items()} == seen


def test_every_method_does_its_own_work_and_no_other():
    steps = small_steps()
    assert list(steps) == list(bench.METHODS)
    for name, step in steps.items():
        before = [p.clone() for p in steps[bench.PLAIN].model.parameters()]
        step()
        assert any(not torch.equal(a, b) for a, b in zip(before, step.model.parameters(), strict=True)), name
        for p, q in zip(step.model.parameters(), steps[bench.PLAIN].model.parameters(), strict=True):
            assert p is q, "one set of weights"
    check_methods(steps)
    inhibitors = [step.inhibitor for step in steps.values() if step.inhibitor]
    assert sorted((one.inhibition, one.penalty_in) for one in inhibitors) == [
        ("log_ms", "backward"),
        ("log_ms", "loss"),
        ("reverse", "loss"),
        ("reverse", "loss"),
    ]


@pytest.mark.slow
def test_compiled_methods_do_their_own_work_too(monkeypatch):
    calls = []

    def backend(graph, example):
        return lambda *inputs: (calls.append(1), graph(*inputs))[1]

    monkeypatch.setattr(devices, "BACKEND", backend)
    with bench.every_method_compiled():
        steps = small_steps(compiled=True)
        check_methods(steps)
        for name, step in steps.items():
            calls.clear()
            step()
            assert len(calls) == 4, f"{name}: four blocks, each in one compiled piece"
    torch._dynamo.reset()


def test_sorting_selects_the_largest_share():
    phi = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)).square()
    assert torch.equal(bench.SortedShare()(phi), TopK(share=0.02)(phi))
    assert bench.SortedShare()(phi[:1, :3]).sum() == 1


def test_a_measurement_has_a_row_a_method():
    rows = bench.measure("16x2", **SMALL, rounds=3)
    assert [row.method for row in rows] == list(bench.METHODS)
    by_name = {row.method: row for row in rows}
    plain = by_name[bench.PLAIN]
    assert plain.ratio == plain.low == plain.high == 1 and plain.parameters > 30_000
    assert all(0 < row.low <= row.high and row.milliseconds > 0 for row in rows)
    memory = {name: row.memory for name, row in by_name.items()}
    assert memory[bench.PLAIN] == memory[bench.AGAIN] == memory["L2E, in the backward pass"]
    assert memory["L2E, in the loss"] > memory["MEmeL, top-1"] > memory[bench.PLAIN]


def test_the_interval_draws_rounds_and_keeps_what_belongs_together():
    rng = np.random.default_rng(0)
    moment = rng.uniform(1, 3, 400)  # how slow the machine is in a round: it hits both methods
    found = bench.ratio_interval(list(2 * moment), list(moment))
    assert found == pytest.approx({"ratio": 2, "low": 2, "high": 2})
    noisy = bench.ratio_interval(list(2 * rng.uniform(0.9, 1.1, 400)), list(rng.uniform(0.9, 1.1, 400)))
    assert noisy["low"] < 2 < noisy["high"] and noisy["high"] - noisy["low"] < 0.1
    few = bench.ratio_interval(list(2 * rng.uniform(0.9, 1.1, 10)), list(rng.uniform(0.9, 1.1, 10)))
    assert few["high"] - few["low"] > noisy["high"] - noisy["low"]


def test_the_table_puts_ratios_beside_times():
    rows = [
        bench.StepCost("128x4", method=name, ratio=ratio, memory=memory, **PLACE, **TIMES)
        for name, ratio, memory in ((bench.PLAIN, 1.0, 2_000_000), ("L2E, in the loss", 1.25, 3_000_000))
    ]
    text = bench.table(rows)
    assert "128x4, 2 x 16 tokens, bf16, cpu, 1 thread, eager" in text
    assert "1.250 (1.000-3.000)" in text and text.endswith("3.0   1.500")


def test_the_command_writes_the_rows(tmp_path, capsys):
    out = tmp_path / "bench.json"
    words = ["bench", "pretrain", "--sizes", "16x2", "--batch", "2", "--context", "16", "--repeats", "3"]
    assert main([*words, "--device", "cpu", "--no-compile", "--out", str(out)]) == 0
    assert "L2E, in the backward pass" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert [row["method"] for row in record["rows"]] == list(bench.METHODS) and record["torch"] == torch.__version__


@pytest.mark.slow
def test_compiled_steps_of_all_methods():
    rows = bench.measure("16x2", **SMALL, rounds=3, compiled=True)
    assert [row.method for row in rows] == list(bench.METHODS) and {row.mode for row in rows} == {"compiled"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sizes", "17x2"], "no such size: '17x2'"),
        (["--batch", "0"], "batch must be at least 1"),
        (["--repeats", "1"], "--repeats of at least 3"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys):
    assert main(["bench", "pretrain", "--device", "cpu", "--no-compile", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]
