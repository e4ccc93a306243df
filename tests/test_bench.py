"""The benchmark measures what it names and prints ratios; no test here depends on how fast the machine is."""

import json

import pytest
import torch

from l2e_min.__main__ import main
from l2e_min.lab import bench_method


def test_operations_do_what_they_say():
    z = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    table = bench_method.operations(z, compiled=False)
    assert torch.equal(table["copy"](), z)
    k = round(0.02 * z.numel())
    for name in ("top 2 % by topk", "top 2 % by sort", "top 2 % by quantile"):
        assert abs(int(table[name]().sum()) - k) <= 1, name
    assert (table["top-1 of a token"]().sum(1) == 1).all()
    plain = table["the same, plain"]()
    torch.testing.assert_close(plain[0], torch.zeros(64), atol=1e-3, rtol=0)  # differences from the mean sum to nothing


def test_prints_a_table_and_writes_the_rows(tmp_path, capsys):
    out = tmp_path / "bench.json"
    words = ["bench", "method", "--neurons", "64", "128", "--threads", "1", "--repeats", "3", "--no-compile"]
    assert main([*words, "--device", "cpu", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "cpu, 1 thread, eager" in printed and "moments + phi + threshold" in printed
    record = json.loads(out.read_text())
    assert {row["neurons"] for row in record["rows"]} == {64, 128} and record["torch"] == torch.__version__
    copies = [row["copies"] for row in record["rows"] if row["operation"] == "copy"]
    assert copies == [1.0, 1.0] and all(row["copies"] > 0 for row in record["rows"])


@pytest.mark.parametrize("words", [["--neurons", "0"], ["--repeats", "1"], ["--out", "nowhere/bench.json"]])
def test_bad_input_is_one_line(words, capsys):
    assert main(["bench", "method", *words]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
