"""What running costs: the tool measures what was planted, the record has every chapter, the page shows it."""

import inspect
import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

from l2e_min.lab import run_costs
from l2e_min.lab.finetuning import record as finetuning_record
from l2e_min.lab.settings import PROFILES
from l2e_min.lab.study import run as study_run

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
sys.path.insert(0, str(BOOK / "_tools"))

import costs  # noqa: E402
import execute  # noqa: E402

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"

PLANTED = """# %%
import os
import pathlib
import subprocess
import sys
import time

held = bytearray({kernel_mb} * 1_000_000)
begin = time.process_time()
while time.process_time() - begin < {cpu}: pass
_ = subprocess.run([sys.executable, "-c", {child!r}], check=True)
time.sleep({sleep})
hub = pathlib.Path(os.environ["HF_HOME"])
hub.mkdir(parents=True, exist_ok=True)
(hub / os.environ["L2E_PROFILE"]).write_bytes(bytes({download_mb} * 1_000_000))
"""

NOTHING = {"kernel_mb": 0, "cpu": 0, "child": "pass", "sleep": 0, "download_mb": 0}


def plant(folder: Path, name: str, **chosen) -> Path:
    path = folder / f"{name}.py"
    path.write_text(PLANTED.format(**NOTHING | chosen))
    return path


# --- the tool


@pytest.mark.slow
def test_the_tool_measures_what_was_planted(tmp_path):
    child = BURN.format(seconds=2) + "held = bytearray(300_000_000)\ntime.sleep(1)"
    empty = costs.alone(plant(tmp_path, "01_nothing"), tmp_path / "out", "quick")
    full = plant(tmp_path, "02_much", kernel_mb=200, cpu=1, child=child, sleep=3, download_mb=7)
    row = costs.alone(full, tmp_path / "out", "quick")
    assert 2.7 < row["cpu_seconds"] - empty["cpu_seconds"] < 4  # 1 + 2 s, and the start of the child's Python
    assert 480 < row["memory_mb"] - empty["memory_mb"] < 560  # 200 + 300 MB held together, and the child's Python
    assert row["wall_seconds"] > 1 + 2 + 1 + 3  # a busy machine can only make it longer
    assert (empty["downloaded_mb"], row["downloaded_mb"]) == (0, 7)
    assert empty["memory_mb"] < 200 and empty["cpu_seconds"] < 5
    assert row["profile"] == "quick" and row["chapter"] == "02_much"
    assert re.fullmatch(r"\d+ cores \(.+\), \d+ GB memory.*", row["machine"])


@pytest.mark.slow
def test_what_others_use_is_told(tmp_path):
    import subprocess

    other = subprocess.Popen([sys.executable, "-c", BURN.format(seconds=1000)])
    try:
        row = costs.alone(plant(tmp_path, "01_nothing", sleep=3), tmp_path, "quick")
    finally:
        other.kill()
        other.wait()
    assert row["others"] > 0.3
    assert run_costs.wall(row) == "busy" and run_costs.wall(row | {"others": 0.0}).isdigit()


@pytest.fixture
def counted(monkeypatch):
    """Measuring without running: the names of the chapters that were asked for; those in "broken" fail."""
    asked = []

    def row(source, folder, profile):
        asked.append(source.stem)
        if source.stem.endswith("broken"):
            return {"chapter": source.stem, "problem": f"\n{source.name}: a cell failed\n"}
        numbers = {"wall_seconds": 1, "cpu_seconds": len(asked), "memory_mb": 1, "downloaded_mb": 0, "others": 0}
        return {"profile": profile, "chapter": source.stem, **numbers}

    monkeypatch.setattr(costs, "alone", row)
    return asked


@pytest.fixture
def measure(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    for name in ("01_a", "02_b"):
        plant(book, name)
    record = tmp_path / "record.json"

    def run(*arguments):
        code = costs.main([*arguments, "--record", str(record), "--out", str(tmp_path / "out")], book)
        return code, {row["chapter"]: row["cpu_seconds"] for row in costs.read_rows(record)}

    return run


def test_one_chapter_alone_leaves_the_others(measure, counted):
    assert measure() == (0, {"01_a": 1, "02_b": 2})
    assert measure("02_b") == (0, {"01_a": 1, "02_b": 3})
    assert measure() == (0, {"01_a": 4, "02_b": 5}), "a finished measurement begins anew"


def test_a_stopped_measurement_goes_on(measure, counted, tmp_path, capsys):
    plant(tmp_path / "book", "03_broken")
    assert measure() == (1, {"01_a": 1, "02_b": 2})
    said = capsys.readouterr()
    assert "[3/3] 03_broken: FAILED" in said.out and "03_broken.py: a cell failed" in said.err
    plant(tmp_path / "book", "02_b", sleep=1)  # changed meanwhile
    counted.clear()
    measure()
    assert counted == ["02_b", "03_broken"]


def test_a_chapter_that_is_gone_leaves_the_record(measure, counted, tmp_path):
    measure()
    (tmp_path / "book" / "01_a.py").unlink()
    assert measure()[1].keys() == {"02_b"}


@pytest.mark.slow
def test_a_failing_chapter_says_where(tmp_path):
    path = tmp_path / "01_a.py"
    path.write_text("# %%\n1 / 0\n")
    assert "ZeroDivisionError" in costs.alone(path, tmp_path, "quick")["problem"]


def test_bad_input(measure, monkeypatch, capsys):
    monkeypatch.setattr(costs.shutil, "which", lambda name: None)
    for arguments, words in (
        (["--profile", "gpu"], "needs a CUDA device"),
        (["--profile", "large"], "invalid choice"),
    ):
        with pytest.raises(SystemExit):
            measure(*arguments)
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no chapter named 09_z"):
        measure("09_z")


def test_a_gpu_is_asked(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text('#!/bin/sh\ncase "$1" in *name) echo "Some GPU";; *) echo 1234;; esac\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert costs.machine().endswith("GB memory, Some GPU")
    watch = costs.Watch()
    with watch:
        while not watch.gpu_memory:
            pass
    assert watch.gpu_memory == 1234


# --- the record and the page


def test_every_chapter_has_its_row():
    rows = run_costs.measured("quick")
    names = {source.stem for source in execute.chapters()}
    missing = names ^ {row["chapter"] for row in rows}
    assert not missing, f"run: python book/_tools/costs.py {' '.join(sorted(missing))}"
    assert len(rows) == len(names)
    for row in rows:
        assert row["cpu_seconds"] > 0 and row["memory_mb"] > 50 and row["wall_seconds"] > 0, row["chapter"]
        assert row["downloaded_mb"] == 0, f"{row['chapter']} downloads under quick"


def test_the_page_names_every_chapter_with_its_numbers():
    notebook = nbformat.read(BOOK / "15_costs.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    tables = "\n".join(output.data.get("text/markdown", "") for output in outputs if "data" in output)
    rows = {row["chapter"]: row for row in run_costs.measured("quick")}
    for name in (source.stem for source in execute.chapters()):
        line = re.search(rf"^\| {name} \|(.*)\|$", tables, re.MULTILINE)
        assert line, f"{name} is not on the page; run: make chapters NAMES=15_costs"
        cells = [cell.strip() for cell in line[1].split("|")]
        row = rows.get(name)
        wanted = [f"{row['cpu_seconds']:.0f}", str(row["memory_mb"])] if row else ["–", "–"]
        assert cells[1:3] == wanted, f"{name}; run: make chapters NAMES=15_costs"


def test_the_record_tells_no_names_and_places():
    text = json.dumps([run_costs.measured(profile) for profile in PROFILES])
    assert not re.search(r"/(home|root|work|tmp|Users)\b|localhost|\.local\b", text)


# --- arithmetic


@pytest.mark.parametrize(
    ("size", "published"),  # what the hub lists for the files, in bytes, to three digits
    [("pythia-70m", 166e6), ("pythia-6.9b", 9.91e9 + 3.94e9)],
)
def test_sizes_are_those_of_the_hub(size, published):
    assert run_costs.download_bytes(size) == pytest.approx(published, rel=2e-3)


def test_training_takes_what_adamw_takes():
    import torch

    weight = torch.nn.Linear(10, 10, bias=False)
    optimizer = torch.optim.AdamW(weight.parameters())
    weight(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    state = [weight.weight, weight.weight.grad, *(t for t in optimizer.state[weight.weight].values() if t.dim())]
    assert sum(t.numel() * t.element_size() for t in state) == 16 * 100


def test_what_chapters_read_of_the_settings():
    read = {
        "across_scales": inspect.getsource(study_run.across_scales),
        "load_scale": inspect.getsource(study_run.load_scale),
        "record.study": inspect.getsource(finetuning_record.study) + inspect.getsource(finetuning_record.Study),
    }
    assert read.keys() == run_costs.THROUGH.keys()
    for name, source in read.items():
        always, of_hub = run_costs.THROUGH[name]
        assert set(re.findall(r"\bsettings\.(\w+)", source)) - {"needs_hub"} == {*always, *of_hub}, name
    handed = r"(\w+(?:\.\w+)?)\((?:[^()]|\n)*(?<![\w.])settings\b(?!\.)"
    for source in execute.chapters():
        functions = set(re.findall(handed, source.read_text(encoding="utf-8")))
        assert functions <= run_costs.THROUGH.keys(), f"{source.stem} hands its settings to {functions}"


def test_changes():
    chapter = "load_scale(settings.model, settings)\nsettings.train_steps"
    assert run_costs.changes(chapter, "gpu") == ["device", "train_steps"]
    assert run_costs.changes(chapter, "paper") == ["device", "dtype", "model", "train_steps"]
    assert run_costs.changes(chapter, "quick") == []


def test_hours(tmp_path):
    path = tmp_path / "runs.jsonl"
    lines = [{"header": {}}, {"cpu_seconds": 1800}, {"cpu_seconds": 5400}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run_costs.cpu_hours(path) == (2, 2.0)
    path.write_text(path.read_text() + '{"other": 1}\n')
    assert run_costs.cpu_hours(path) == (3, None)
