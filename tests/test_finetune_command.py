"""``l2e finetune`` as a reader calls it: a folder of files never seen, a task cut from text, and what is wrong said."""

import json
import re

import numpy as np
import pytest
import torch
from finetune_data import SIGNS, WORDS, planted_task, tiny_bert

from l2e_min.lab import cli
from l2e_min.lab.commands.finetune import RATES
from l2e_min.lab.finetuning.compare import read_rows
from l2e_min.lab.finetuning.mini_glue import load as mini
from l2e_min.lab.finetuning.tasks import load_tasks
from l2e_min.lab.text.document import Corpus, Document

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("models") / "tiny")


def write(folder, splits=("train", "dev", "test"), **kind):
    """A folder of TSV files with a planted task."""
    folder.mkdir(parents=True)
    task = planted_task(**kind)
    for name in splits:
        part = getattr(task, name)
        lines = [f"{text}\t{SIGNS[label]}" for text, label in zip(part.first, part.labels, strict=True)]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n")
    return folder


def l2e(capsys, *words):
    """(status, standard output, standard error)."""
    status = cli.main(["finetune", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


QUICK = ("--rates", "0.01", "--batch", "16", "--device", "cpu", "--quiet")


@pytest.mark.slow
def test_a_folder_never_seen(tmp_path, capsys, model):
    folder, out = write(tmp_path / "Reviews"), tmp_path / "runs" / "new"
    words = ["--model", model, "--task-dir", folder, *QUICK, "--method", "plain", "memel", "--seeds", 2, "--out", out]
    status, printed, _ = l2e(capsys, *words)
    assert status == 0
    rows = read_rows(out)
    assert {(row["task"], row["method"], row["seed"]) for row in rows} == {
        ("reviews", method, seed) for method in ("plain", "memel") for seed in (0, 1)
    }
    for title, method in (("original", "plain"), ("MEmeL", "memel")):
        scores = [row["test"] for row in rows if row["method"] == method]
        line = next(line for line in printed.splitlines() if re.match(rf"{title}  ", line))
        assert line.split()[1] == f"{np.mean(scores):.1f}" and np.mean(scores) > 90
    assert "over 2 seeds, test rows" in printed and "MEmeL minus original: " in printed
    assert printed.rstrip().endswith(f"all runs: {out}")
    before = (out / "runs.jsonl").read_bytes()
    assert l2e(capsys, *words)[:2] == (0, printed) and (out / "runs.jsonl").read_bytes() == before
    header = json.loads(before.split(b"\n")[0])["header"]
    assert header["model"] == "tiny" and header["settings"]["head"] == "mean" and header["versions"]


def prose(n_files=40) -> Corpus:
    """Files of short sentences with function words among made-up ones, of which ``accept`` can be cut."""
    documents = []
    for number in range(n_files):
        rng = np.random.default_rng(number)
        sentences = []
        for _ in range(4):
            a, b, c, d, e, f = (str(word) for word in rng.choice([w for w in WORDS if len(w) > 2], 6))
            sentences.append(f"The {a} of the {b} is {c} and {d} {e} for {f}.")
        documents.append(Document("\n\n".join(sentences), f"package/part{number}.py", "docstrings"))
    return Corpus("small", documents, [])


@pytest.mark.slow
def test_a_mini_task_is_cut_from_the_installed_text(tmp_path, capsys, monkeypatch, model):
    asked = []
    monkeypatch.setattr(mini, "load_corpus", lambda name: asked.append(name) or prose())
    monkeypatch.setattr(mini, "BUILD", tmp_path / "build")
    words = ["--model", model, "--task", "accept", "--method", "plain", "--seeds", 1, "--epochs", 1, *QUICK]
    status, printed, error = l2e(capsys, *words, "--train-rows", 32, "--out", tmp_path / "out")
    assert status == 0, error
    (row,) = read_rows(tmp_path / "out")
    task = mini.mini_task("accept", prose())
    assert asked == ["installed"] and row["rows"] == [32, len(task.dev), len(task.test)] and len(task.train) > 64
    assert row["curve"]["step"] == [1, 2], "32 rows in batches of 16"
    assert "accept: matthews" in printed and "over 1 seeds" in printed


def test_controls_are_runs_of_their_own(tmp_path, capsys, model):
    folder = write(tmp_path / "signs", train=32)
    words = ["--model", model, "--task-dir", folder, *QUICK, "--epochs", 1, "--method", "plain", "--seeds", 1]
    status, printed, error = l2e(capsys, *words, "--controls", "random", "entry", "--out", tmp_path / "out")
    assert status == 0, error
    told = {(row["method"], row["pretrained"], row["reading"]): row for row in read_rows(tmp_path / "out")}
    assert set(told) == {("plain", True, "neuron"), ("plain", False, "neuron"), ("memel", True, "neuron"),
                         ("memel", True, "entry")}  # fmt: skip
    loss = {key: row["curve"]["loss"] for key, row in told.items()}
    assert loss["plain", False, "neuron"] != loss["plain", True, "neuron"], "random weights are not the model's"
    assert [line.split()[0] for line in printed.splitlines()[1:4]] == ["original", "random", "entry"]


def test_a_model_with_a_short_context_cuts_the_rows(tmp_path, capsys):
    """Tasks in folders have up to 128 tokens."""
    short = tiny_bert(tmp_path / "short", "bert-32x1", context=16)
    folder = write(tmp_path / "signs", train=16)
    long = " ".join(WORDS[:100])
    with (folder / "train.tsv").open("a") as file:
        file.write(f"{long}\t{SIGNS[0]}\n")
    words = ["--model", short, "--task-dir", folder, *QUICK, "--epochs", 1, "--method", "plain", "--seeds", 1]
    status, _, error = l2e(capsys, *words, "--controls", "entry", "--out", tmp_path / "out")
    assert status == 0, error


def test_defaults_are_w24_s_for_a_real_bert():
    assert RATES["cls"] == (5e-5, 4e-5, 3e-5, 2e-5)
    assert load_tasks([]) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give --task NAME or --task-dir DIR"),
        (
            ["--task", "chess"],
            "no task 'chess'; expected some of accept, topic, .*rte, mini, glue, glue-small, or --task-dir",
        ),
        (["--task-dir", "{folder}", "{folder}"], "two tasks are called signs: rename a folder"),
        (["--task-dir", "{folder}", "{other}"], "two tasks are called signs: rename a folder"),
        (["--task-dir", "{nothing}"], "no folder '.*nothing'; expected one with train.tsv and dev.tsv"),
        (["--task-dir", "{folder}", "--method", "adam"], "no such method: 'adam'; expected some of plain, freeze, "),
        (["--task-dir", "{folder}", "--method", "all", "plain"], "no such method: 'all'"),
        (["--task-dir", "{folder}", "--seeds", "0"], "--seeds takes a number of at least 1"),
        (["--task-dir", "{folder}", "--trials", "-1"], "--trials of at least 0"),
        (["--task-dir", "{folder}", "--train-rows", "0"], "--train-rows of at least 2"),
        (["--task-dir", "{folder}", "--train-rows", "1"], "--train-rows of at least 2"),
        (["--task-dir", "{folder}", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["--task-dir", "{folder}", "--rates", "0"], "learning_rate must be above 0, got 0"),
        (
            ["--task-dir", "{folder}", "--model", "{nothing}"],
            "no model in .*nothing: expected a folder with config.json",
        ),
        (["--task-dir", "{folder}", "--controls", "chance"], "invalid choice: 'chance'"),
        (["--task-dir", "{folder}", "--head", "last"], "invalid choice: 'last'"),
        (["--task-dir", "{folder}", "--device", "cuda"], "torch sees no CUDA device here; use --device cpu"),
        (["--task-dir", "{folder}", "--out", "{folder}/train.tsv"], "--out .*train.tsv is not a folder"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    places = {"folder": write(tmp_path / "signs", train=8), "other": write(tmp_path / "b" / "Signs", train=8),
              "nothing": tmp_path / "nothing"}  # fmt: skip
    words = [word.format(**places) for word in words]
    status, printed, error = l2e(capsys, "--out", tmp_path / "out", *words)
    begun = says.startswith(("no model", "learning_rate"))  # seen when the first run begins
    assert status == 2 and (begun or printed == "")
    assert re.search(says, error) and error.startswith("l2e: ") and error.count("\n") == 1
    assert begun or not (tmp_path / "out").exists()


def test_out_is_needed(capsys):
    status, _, error = l2e(capsys, "--task", "accept")
    assert status == 2 and "the following arguments are required: --out" in error
