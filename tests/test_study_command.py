"""``l2e study`` as a reader calls it: any architecture, a suite, data of one's own, stopped and gone on with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from study_data import (
    FAMILIES,
    LAYERS,
    NEURONS,
    SUITE,
    WORDS,
    export,
    feature_folder,
    save,
    tiny,
    train_suite,
)

from l2e_min.lab import cli
from l2e_min.lab.mini_pythia import load_model
from l2e_min.lab.record import read, rounded
from l2e_min.lab.study import run as module
from l2e_min.lab.study.model import study_model
from l2e_min.lab.study.table import COLUMNS, table
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.features import load_features

HELD_OUT = [f"the loss of row {i} is measured on this text" for i in range(20)]
KEYS = ("scale", "seed", "step")


@pytest.fixture(autouse=True)
def little_text(monkeypatch):
    monkeypatch.setattr(module, "held_out_rows", lambda: HELD_OUT)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with models of three families, the reader's own features, and a suite."""
    there = tmp_path_factory.mktemp("places")
    for name in FAMILIES:
        save(tiny(name), there / name)
    feature_folder(there / "words")
    train_suite(there / "suite")
    return there


def l2e(capfd, *words) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of ``l2e study``."""
    capfd.readouterr()
    status = cli.main(["study", *map(str, words)])
    return status, *capfd.readouterr()


def said(error: str) -> str:
    """The last line on standard error; progress bars and transformers' own lines stand before it."""
    return error.replace("\r", "\n").rstrip("\n").rsplit("\n", 1)[-1]


def words_of(places, out, model, *more) -> list:
    return [places / model, "--features", places / "words", "--rows", 16, "--out", out, *more]


# ---- what it measures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_any_architecture_is_measured(places, tmp_path, capfd, name):
    status, printed, _ = l2e(capfd, *words_of(places, tmp_path, name))
    assert status == 0
    header, (row,) = read(tmp_path / "study.jsonl")
    assert [row[key] for key in KEYS] == [name, 0, -1]
    assert header["datasets"] == {"words": sorted(WORDS)} and header["rows_per_feature"] == 16
    m = row["datasets"]["words"]
    assert (m["layers"], m["neurons"], m["dead"]) == (LAYERS, NEURONS, 0)
    data = load_features(str(places / "words"), 16)
    expected = study_model(*load_model(places / name), [data], HELD_OUT, progress=False)
    assert {key: row[key] for key in expected} == rounded(expected)
    assert m["f1"] > m["f1_null"] and m["phi_on"] > m["phi_on_null"], "even a random model sees words"
    lines = printed.splitlines()
    assert lines[0] == f"{name} seed 0 end (1 of 1)" and lines[1] == "words"
    assert re.fullmatch(rf"{name} s0 end( +-?\d+\.\d{{3}}){{{len(COLUMNS)}}}", lines[3])
    assert lines[-1] == f"all numbers: {tmp_path / 'study.jsonl'}"
    assert "measured" not in printed and "null: with permuted labels" in printed


@pytest.mark.slow
def test_the_model_as_an_option_and_other_options(places, tmp_path, capfd):
    words = words_of(places, tmp_path, "gpt2", "--no-off", "--aggregate", "max", "--seed", 3, "--random-neurons", 20)
    status, printed, _ = l2e(capfd, "--model", *words, "--batch-size", 5, "--device", "cpu")
    assert status == 0
    header, (row,) = read(tmp_path / "study.jsonl")
    assert (header["seed"], header["aggregate"], header["random_neurons"]) == (3, "max", 20)
    data = load_features(str(places / "words"), 16)
    options = {"aggregate": "max", "seed": 3, "random_neurons": 20, "batch_size": 5, "progress": False, "off": False}
    expected = study_model(*load_model(places / "gpt2"), [data], HELD_OUT, **options)
    assert row["datasets"] == rounded(expected["datasets"]) and "rise" not in row["datasets"]["words"]
    assert printed.splitlines()[3].split()[-2:] == ["-", "-"]


@pytest.mark.slow
def test_a_suite_is_measured_along_training(places, tmp_path, capfd):
    status, printed, _ = l2e(capfd, *words_of(places, tmp_path, "suite", "--steps", 2, 7, "--rows", 8))
    assert status == 0
    _, rows = read(tmp_path / "study.jsonl")
    runs = [run[:2] for run in SUITE]
    assert [tuple(row[key] for key in KEYS) for row in rows] == [(*run, step) for run in runs for step in (2, 12)]
    assert ["rise" in row["datasets"]["words"] for row in rows] == [False, True] * 3, "at the end only"
    assert len({row["bits_per_byte"] for row in rows}) == 6
    shown = [line.split()[:3] for line in printed.splitlines() if re.match(r"\d+x\d+ s\d", line)]
    measured = [line for line in shown if line[1] != "seed"]
    assert measured == [[scale, f"s{seed}", str(step)] for scale, seed in runs for step in (2, 12)]
    assert "no snapshot there after these steps: 7" in printed
    export(places / "suite", tmp_path / "shipped")
    own = ("--features", places / "words", "--rows", 8, "--steps", "--out", tmp_path / "2")
    assert l2e(capfd, tmp_path / "shipped", *own)[0] == 0
    shipped = {tuple(row[key] for key in KEYS): row for row in read(tmp_path / "2/study.jsonl")[1]}
    for row in rows:
        if row["step"] == 12:
            other = shipped[row["scale"], row["seed"], 12]
            assert other["bits_per_byte"] == pytest.approx(row["bits_per_byte"], rel=1e-3), "half precision"
            assert other["datasets"]["words"]["phi_on"] == pytest.approx(row["datasets"]["words"]["phi_on"], rel=0.02)


def test_what_is_printed_is_what_is_written():
    found = {name: 0.1 * i for i, name in enumerate(("f1", "f1_null", "phi_on_best", "phi_off_best", "phi_on"))}
    found |= {"phi_on_null": 0.6, "ks": None, "ks_null": 0.7, "gap_standardized": 0.8}
    found["fkr"] = [[[0.0] * 25] * 2, [[0.25] * 25, [0.75] * 25]]
    off = {"rise": [0.01, 0.03], "rise_random": [0.001, 0.003]}
    rows = [
        {
            "scale": "32x2",
            "seed": 0,
            "step": 4,
            "bits_per_byte": 2.5,
            "datasets": {"a": found, "b": found | {"f1": 0.9}},
        },
        {
            "scale": "32x2",
            "seed": 1,
            "step": -1,
            "bits_per_byte": 1.5,
            "datasets": {"a": found | off, "b": found | off},
        },
    ]
    a, b, legend = table(rows).split("\n\n")
    numbers = ["2.500", "0.000", "0.100", "0.200", "0.300", "0.400", "0.600", "-", "0.700", "0.800", "0.500", "-", "-"]
    assert a.splitlines()[0] == "a" and a.splitlines()[2].split() == ["32x2", "s0", "4", *numbers]
    assert a.splitlines()[3].split()[-3:] == ["0.500", "0.020", "0.002"] and "32x2 s1 end " in a
    assert b.splitlines()[2].split()[4] == "0.900" and len({len(line) for line in a.splitlines()[1:]}) == 1
    assert legend.startswith("F1: mean held-out F1")


# ---- stopped, and called again -----------------------------------------------------------------------------------


def interrupted_at(call: int, monkeypatch, function=study_model):
    """Ctrl-C in the middle of measuring the model of that number."""
    calls = []

    def measuring(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(module, "study_model", measuring)
    return calls


@pytest.mark.slow
def test_stopped_and_called_again_the_result_is_that_of_one_go(places, tmp_path, capfd, monkeypatch):
    words = words_of(places, tmp_path / "one", "suite", "--steps", "--rows", 8, "--no-off")
    assert l2e(capfd, *words)[0] == 0
    expected = (tmp_path / "one/study.jsonl").read_bytes()
    words[words.index("--out") + 1] = out = tmp_path / "again"
    interrupted_at(2, monkeypatch)
    status, _, error = l2e(capfd, *words)
    assert status == 130 and said(error) == "l2e: stopped" and len(read(out / "study.jsonl")[1]) == 1
    with open(out / "study.jsonl", "a") as file:
        file.write('{"scale": "16x1", "seed": 1, "st')  # and killed in the middle of a line
    interrupted_at(2, monkeypatch)
    assert l2e(capfd, *words)[0] == 130 and len(read(out / "study.jsonl")[1]) == 2
    calls = interrupted_at(99, monkeypatch)
    status, printed, _ = l2e(capfd, *words)
    assert status == 0 and len(calls) == 1 and "32x2 seed 0 step 12 (1 of 1)" in printed
    assert (out / "study.jsonl").read_bytes() == expected
    calls.clear()
    assert l2e(capfd, *words)[0] == 0 and not calls, "nothing is measured twice"
    assert table(read(out / "study.jsonl")[1]) in printed


@pytest.mark.slow
def test_a_real_ctrl_c_leaves_what_is_done(places, tmp_path):
    """The command in a process of its own, with the installed text; stopped once the first model is written down."""
    load_corpus("installed")  # so that it is cached
    words = words_of(places, tmp_path, "suite", "--steps", 0, 1, 2, 4, 8, "--rows", 8)
    command = [sys.executable, "-W", "ignore", "-m", "l2e_min", "study", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    record, until = tmp_path / "study.jsonl", time.monotonic() + 120
    while not (record.is_file() and record.read_text().count("\n") >= 2):
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and said(error).endswith("l2e: stopped") and "Traceback" not in error
    header, rows = read(record)
    assert 1 <= len(rows) < 18 and header["rows_per_feature"] == 8
    assert [row["step"] for row in rows] == [0, 1, 2, 4, 8, 12, 0, 1, 2, 4, 8, 12, 0, 1, 2, 4, 8, 12][: len(rows)]


# ---- what cannot be ----------------------------------------------------------------------------------------------


def refused(capfd, *words) -> str:
    """The one line of a call that exits with status 2 and prints nothing."""
    status, _, error = l2e(capfd, *words)
    assert status == 2 and "Traceback" not in error and said(error).startswith("l2e: "), (status, error)
    return said(error)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["no/such/folder"],
            "no model in no/such/folder: expected a folder with a model or a suite in it, or hub:NAME",
        ),
        ([], "give one MODEL"),
        (["{places}/gpt2", "--model", "{places}/llama"], "give one MODEL"),
        (["{places}"], "no model in {places}"),
        (["{places}/gpt2", "--rows", "0"], "--rows, --random-neurons and --batch-size take numbers of at least 1"),
        (["{places}/gpt2", "--rows", "1"], "at least 2 rows of each feature are needed"),
        (["{places}/gpt2", "--rows", "x"], "argument --rows: invalid int value: 'x'"),
        (["{places}/gpt2", "--rows", "5000"], "5000 are asked for; ask for fewer or shorter rows, or give more text"),
        (["{places}/gpt2", "--random-neurons", "0"], "--random-neurons"),
        (["{places}/gpt2", "--batch-size", "-1"], "--batch-size"),
        (["{places}/gpt2", "--seed", "-1"], "--steps and --seed take numbers of at least 0"),
        (["{places}/gpt2", "--steps", "-4"], "--steps"),
        (["{places}/gpt2", "--aggregate", "sum"], "argument --aggregate: invalid choice: 'sum'"),
        (["{places}/gpt2", "--features", "klingon"], "no feature dataset 'klingon'; give one of natural_language, "),
        (["{places}/gpt2", "--features", "{places}/words/code"], "has 0 sub-folders; at least 2 labels are needed"),
        (
            ["{places}/gpt2", "--rows", "8", "--features", *["{places}/words"] * 2],
            "two feature sets have one name: words",
        ),
        (["{places}/gpt2", "--device", "cuda"], "torch sees no CUDA device here; use --device cpu"),
        (["hub:"], "no name in 'hub:'"),
    ],
)
def test_bad_input_is_one_line(places, tmp_path, capfd, words, says):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    words = [word.format(places=places) for word in words]
    words += [] if "--features" in words else ["--features", places / "words"]
    assert says.format(places=places) in refused(capfd, *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is begun"


def test_without_a_place_to_write_nothing_is_measured(places, tmp_path, capfd):
    own = [places / "gpt2", "--features", places / "words", "--rows", "8"]
    assert "the following arguments are required: --out" in refused(capfd, *own)
    (tmp_path / "file").write_text("mine")
    assert "cannot write" in refused(capfd, *own, "--out", tmp_path / "file")
    assert "cannot write" in refused(capfd, *own, "--out", tmp_path / "file" / "below")


@pytest.mark.slow
def test_models_that_cannot_be_studied_are_named(places, tmp_path, capfd):
    import transformers as t

    torch.manual_seed(0)
    size = {"vocab_size": 1024, "hidden_size": 16, "num_hidden_layers": 2}
    bert = t.BertForMaskedLM(t.BertConfig(**size, num_attention_heads=2, intermediate_size=24))
    mamba = t.MambaForCausalLM(t.MambaConfig(**size, state_size=4))
    broken = tiny("gpt2")
    broken.transformer.h[1].mlp.c_fc.bias.data[3] = torch.nan
    models = {
        "bert": (bert, "BertLMHeadModel sees the tokens that it predicts; expected a causal language model"),
        "mamba": (mamba, "no MLP blocks known in MambaForCausalLM"),
        "broken": (broken, "hold NaN or infinity"),
    }
    for name, (model, says) in models.items():
        save(model, tmp_path / name)
        assert says in refused(capfd, *words_of(places, tmp_path / "out", tmp_path / name))
    shutil.copytree(places / "gpt2", tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "bare/pytorch_model.bin").write_bytes(b"never read")
    assert f"cannot load the model {tmp_path / 'bare'}" in refused(
        capfd, *words_of(places, tmp_path / "out", tmp_path / "bare")
    )
    shutil.copytree(places / "gpt2", tmp_path / "mute", ignore=shutil.ignore_patterns("tokenizer*"))
    assert "no tokenizer.json in" in refused(capfd, *words_of(places, tmp_path / "out", tmp_path / "mute"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/suite.json").write_text("{}")
    assert "holds no finished run of a suite" in refused(capfd, *words_of(places, tmp_path / "out", tmp_path / "empty"))
    assert l2e(capfd, *words_of(places, tmp_path / "out", "gpt2", "--seed", 4))[0] == 0, "what failed binds nobody"


def test_labels_in_too_few_files_are_named_before_anything_is_measured(places, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(module, "load_model", lambda _: pytest.fail("too late"))
    for feature in WORDS:
        (tmp_path / "own" / feature).mkdir(parents=True)
        text = "".join(path.read_text() for path in sorted((places / "words" / feature).iterdir()))
        (tmp_path / "own" / feature / "all.txt").write_text(text)
    message = refused(capfd, places / "gpt2", "--features", tmp_path / "own", "--rows", "16", "--out", tmp_path / "out")
    assert "own cannot be split" in message and "(code: 1 files); give each feature more files" in message


@pytest.mark.slow
def test_a_record_is_of_one_kind(places, tmp_path, capfd):
    """Other settings, other texts, another model of the same name, or without neurons switched off."""
    words = words_of(places, tmp_path / "out", "gpt2", "--rows", 8)
    assert l2e(capfd, *words, "--no-off")[0] == 0
    before = (tmp_path / "out/study.jsonl").read_bytes()
    assert "another rows_per_feature (8, now 9)" in refused(capfd, *words, "--rows", 9)
    assert "has gpt2 seed 0 end without neurons switched off" in refused(capfd, *words)
    save(tiny("gpt2", seed=1), tmp_path / "gpt2")
    words[0] = tmp_path / "gpt2"
    assert "holds another model that is named gpt2" in refused(capfd, *words, "--no-off")
    shutil.copytree(places / "words", tmp_path / "words")
    words[words.index("--features") + 1] = tmp_path / "words"
    for path in (tmp_path / "words").rglob("*.txt"):
        path.write_text(path.read_text().upper())
    assert "another texts" in refused(capfd, *words, "--no-off")
    assert (tmp_path / "out/study.jsonl").read_bytes() == before
    assert l2e(capfd, *words_of(places, tmp_path / "out", "llama", "--rows", 8))[0] == 0, "another name goes in as well"
    assert [row["scale"] for row in read(tmp_path / "out/study.jsonl")[1]] == ["gpt2", "llama"]
