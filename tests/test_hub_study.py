"""``l2e study hub:EleutherAI/pythia-70m@step1000`` walked for real, against a stand-in for the hub on this machine."""

import re
import shutil

import pytest
from hub_standin import Hub
from study_data import feature_folder
from test_hub import PYTHIA_70M, Caller, tiny_pythia

from l2e_min.lab.mini_pythia import load_model
from l2e_min.lab.record import read, rounded
from l2e_min.lab.study.model import study_model
from l2e_min.lab.text.features import load_features

PYTHIA_160M, PYTHIA_410M = "EleutherAI/pythia-160m", "EleutherAI/pythia-410m"
REVISIONS = {"main": -1, "step1000": 1000, "step143000": 143000}
HELD_OUT = [f"the loss of row {i} is measured on this text" for i in range(20)]


SLOW_FIXTURES = {"caller"}  # a process with the Hugging Face libraries


@pytest.fixture(scope="module")
def hub():
    """Small checkpoints under the real names; 160m's is larger than the 10 MB pieces that the client keeps."""
    revisions = {name: tiny_pythia(seed)[0] for seed, name in enumerate(REVISIONS)}
    pickled = {k: v for k, v in revisions["main"].items() if k != "model.safetensors"} | {"pytorch_model.bin": b"no"}
    models = {
        PYTHIA_70M: revisions | {"old": pickled},
        PYTHIA_160M: {"main": tiny_pythia(5, mask=3500)[0]},
        PYTHIA_410M: {"main": revisions["main"]},
    }
    hub = Hub(models, {})
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return feature_folder(tmp_path_factory.mktemp("own") / "words")


@pytest.fixture(scope="module")
def caller(hub, home):
    caller = Caller(hub, home)
    yield caller
    caller.close()


def study(caller, words, out, name, *more):
    """(exit status, standard output, the last line on standard error) of ``l2e study hub:NAME``."""
    options = ["--features", str(words), "--rows", "8", "--no-off", "--out", str(out), *more]
    status, printed, error = caller.value("l2e", "study", f"hub:{name}", *options)
    assert "Traceback" not in error
    return status, printed, error.replace("\r", "\n").rstrip("\n").rsplit("\n", 1)[-1]


def refused(caller, words, out, name) -> str:
    """The line of a call that exits with status 2, soon."""
    status, _, line = study(caller, words, out, name)
    assert status == 2 and line.startswith("l2e: cannot load the model hub:"), (status, line)
    return line


def in_hand(hub, words, folder, name, revision="main") -> dict:
    """The measures of a checkpoint's very files in a folder."""
    folder.mkdir()
    for path, data in hub.repositories["models"][name][revision].items():
        (folder / path).write_bytes(data)
    model, tokenizer = load_model(folder)
    return rounded(study_model(model, tokenizer, [load_features(str(words), 8)], HELD_OUT, off=False, progress=False))


def test_checkpoints_along_training_are_measured_as_they_are_served(hub, caller, words, tmp_path):
    for revision, step in REVISIONS.items():
        name = PYTHIA_70M if revision == "main" else f"{PYTHIA_70M}@{revision}"
        status, printed, _ = study(caller, words, tmp_path, name)
        assert status == 0 and f"{PYTHIA_70M} seed 0 {'end' if step < 0 else f'step {step}'} (1 of 1)" in printed
    _, rows = read(tmp_path / "study.jsonl")
    assert [(row["scale"], row["seed"], row["step"]) for row in rows] == [
        (PYTHIA_70M, 0, s) for s in (-1, 1000, 143000)
    ]
    assert len({row["bits_per_byte"] for row in rows}) == 3
    for row, revision in zip(rows, REVISIONS, strict=True):
        expected = in_hand(hub, words, tmp_path / revision, PYTHIA_70M, revision)
        assert {key: row[key] for key in expected} == expected, revision
    hub.requests.clear()
    status, printed, _ = study(caller, words, tmp_path, f"{PYTHIA_70M}@step1000")
    assert status == 0 and "(1 of 1)" not in printed and not hub.requests, "measured already: nobody is asked"


def test_a_broken_transfer_goes_on(hub, caller, words, tmp_path):
    hub.break_next["model.safetensors"] = 1
    hub.requests.clear()
    status, _, _ = study(caller, words, tmp_path / "out", PYTHIA_160M)
    assert status == 0 and hub.break_next["model.safetensors"] == 0
    transfers = [asked for method, path, asked in hub.requests if method == "GET" and path.startswith("/cdn/")]
    assert transfers == ["", f"bytes={10 * 2**20}-"], "not from the beginning"
    expected = in_hand(hub, words, tmp_path / "files", PYTHIA_160M)
    (row,) = read(tmp_path / "out/study.jsonl")[1]
    assert {key: row[key] for key in expected} == expected


def test_with_the_hub_gone_what_is_cached_is_measured(caller, words, tmp_path, request):
    assert study(caller, words, tmp_path / "before", f"{PYTHIA_70M}@step1000")[0] == 0
    request.getfixturevalue("gone")
    assert study(caller, words, tmp_path / "after", f"{PYTHIA_70M}@step1000")[0] == 0
    assert (tmp_path / "after/study.jsonl").read_bytes() == (tmp_path / "before/study.jsonl").read_bytes()
    for name in (PYTHIA_410M, f"{PYTHIA_70M}@step7"):
        message = refused(caller, words, tmp_path / "out", name)
        assert "does not answer and it is not in this machine's cache" in message and "L2E_PROFILE=quick" in message
    assert not read_rows(tmp_path / "out")


def read_rows(out) -> list[dict]:
    return read(out / "study.jsonl")[1]


def test_a_hub_that_is_down_is_said(hub, caller, words, tmp_path):
    hub.down = True
    try:
        assert "does not answer" in refused(caller, words, tmp_path, PYTHIA_410M)
    finally:
        hub.down = False
    assert study(caller, words, tmp_path, PYTHIA_410M)[0] == 0, "and when it is up again, the same command does it"


def test_a_filled_cache_is_enough_where_offline_is_chosen(hub, caller, words, home, tmp_path):
    assert study(caller, words, tmp_path / "before", f"{PYTHIA_70M}@step1000")[0] == 0
    shutil.copytree(home, tmp_path / "home", symlinks=True)
    hub.requests.clear()
    offline = Caller(hub, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert study(offline, words, tmp_path / "after", f"{PYTHIA_70M}@step1000")[0] == 0
    assert (tmp_path / "after/study.jsonl").read_bytes() == (tmp_path / "before/study.jsonl").read_bytes()
    message = refused(offline, words, tmp_path / "after", f"{PYTHIA_70M}@step512")
    assert "HF_HUB_OFFLINE is set; unset it to download" in message and "L2E_PROFILE=quick" in message
    offline.close()
    assert hub.requests == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (f"{PYTHIA_70M}@step7", r"no such revision; Pythia's are main and step0 to step143000"),
        ("EleutherAI/pythia-71m", r"no such name, or it is private; check the spelling"),
        (f"{PYTHIA_70M}@old", r"no safetensors, and pickled weights are not loaded"),
    ],
)
def test_what_cannot_be_had_is_one_line(hub, caller, words, tmp_path, name, says):
    hub.requests.clear()
    message = refused(caller, words, tmp_path, name)
    assert re.search(says, message) and "L2E_PROFILE=quick" in message
    assert not [path for _, path, _ in hub.requests if ".bin" in path], "pickled weights are not even asked for"


def test_a_revision_that_is_no_step_has_a_name_of_its_own(hub, caller, words, tmp_path):
    hub.repositories["models"][PYTHIA_70M]["v2"] = hub.repositories["models"][PYTHIA_70M]["step1000"]
    for name in (PYTHIA_70M, f"{PYTHIA_70M}@v2"):
        assert study(caller, words, tmp_path, name)[0] == 0
    first, second = read_rows(tmp_path)
    assert (first["scale"], second["scale"]) == (PYTHIA_70M, f"{PYTHIA_70M}@v2")
    assert first["bits_per_byte"] != second["bits_per_byte"]


def test_nobody_but_the_hub_is_asked(caller):
    assert caller("reachable")["refused"] == []
