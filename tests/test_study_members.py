"""The models of a suite's folder are found, in order, with the weights they were trained to or shipped with."""

import json
import shutil

import pytest
import torch
from study_data import SUITE, export, train_suite

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_model, untrained
from l2e_min.lab.study.members import STEPS, is_suite, members


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_suite(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def shipped(trained, tmp_path_factory):
    return export(trained, tmp_path_factory.mktemp("models") / "suite")


def names(found) -> list[tuple]:
    return [(m.scale, m.seed, m.step) for m in found]


def test_all_steps_of_all_runs_are_found_small_scales_first(trained, shipped):
    expected = [(scale, seed, step) for scale, seed, _ in SUITE for step in (0, 2, 8, 12)]
    assert names(members(trained, (8, 2, 0, 5))) == expected
    assert names(members(trained, ())) == [(scale, seed, 12) for scale, seed, _ in SUITE]
    assert names(members(trained)) == [(*run[:2], step) for run in SUITE for step in (0, 4, 12)]
    expected = [(scale, seed, step) for scale, seed, there in SUITE for step in (0, *there, 12)]
    assert names(members(shipped, (0, 2, 4, 8))) == expected, "snapshots that ship"
    assert is_suite(trained) and is_suite(shipped) and not is_suite(shipped / "16x1")
    assert next(str(m) for m in members(trained, ())) == "16x1 seed 0 step 12"
    assert 0 in STEPS and all(step & (step - 1) == 0 for step in STEPS), "steps that Pythia has, too"


def test_the_end_is_no_snapshot_as_well(trained, tmp_path):
    """A run of 8 steps has its last weights twice."""
    shutil.copytree(trained, tmp_path / "suite")
    for path in (tmp_path / "suite").glob("*/*/result.json"):
        record = json.loads(path.read_text())
        record["settings"]["steps"] = 8
        path.write_text(json.dumps(record))
    assert names(members(tmp_path / "suite", (0, 4, 8)))[:4] == [("16x1", 0, step) for step in (0, 4, 8)] + [
        ("16x1", 1, 0)
    ]


def test_trained_and_shipped_weights_are_the_same_up_to_half_precision(trained, shipped):
    mine = {(m.scale, m.seed, m.step): m for m in members(trained, (0, 2, 4, 8))}
    compared, seen = 0, set()
    for member in members(shipped, (0, 2, 4, 8)):
        (a, words), (b, other) = mine[member.scale, member.seed, member.step].load(), member.load()
        for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(x if member.step == 0 else x.half().float(), y), (str(member), name)
        assert not a.training and not b.training
        assert words("return value").input_ids == other("return value").input_ids
        seen.add(a.get_input_embeddings().weight[5].sum().item())
        compared += 1
    assert compared == 3 * 2 + 3 == len(seen), "all of them different models"


def test_step_0_is_the_seeds_untrained_model(trained, shipped):
    for folder in (trained, shipped):
        for member in members(folder, (0,)):
            if member.step == 0:
                model, _ = member.load()
                twin = untrained(member.scale, seed=member.seed, vocabulary=model.config.vocab_size, context=32)
                assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_the_end_is_the_finished_model(trained):
    last = next(m for m in members(trained, ()) if m.scale == "32x2").load()[0]
    expected, _ = load_model(trained / "32x2/seed0/model")
    assert all(torch.equal(a, b) for a, b in zip(last.parameters(), expected.parameters(), strict=True))


def test_what_is_not_finished_is_left_out(trained, tmp_path):
    suite = tmp_path / "suite"
    shutil.copytree(trained, suite)
    (suite / "16x1/seed0/result.json").unlink()
    (suite / "64x3/seed0/checkpoints").mkdir(parents=True)
    assert names(members(suite, ())) == [("16x1", 1, 12), ("32x2", 0, 12)]
    for run in ("16x1/seed1", "32x2/seed0"):
        (suite / run / "result.json").unlink()
    with pytest.raises(UserError, match=r"holds no finished run of a suite; train one with: l2e pretrain suite"):
        members(suite)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no finished run"):
        members(tmp_path / "empty")


def test_order_is_by_size_and_number_and_other_folders_are_none(tmp_path):
    runs = ["256x6/seed0", "32x2/seed10", "32x2/seed2", "128x4/seed0", "128x12/seed0"]
    for name in [*runs, "exported/seed0", "32x2/seed0.bak", "left_out/256x6", "axb/seed1"]:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "result.json").write_text('{"settings": {"steps": 7}}')
    expected = [("32x2", 2, 7), ("32x2", 10, 7), ("128x4", 0, 7), ("128x12", 0, 7), ("256x6", 0, 7)]
    assert names(members(tmp_path, ())) == expected
    (tmp_path / "32x2/seed2/result.json").write_text("{")
    with pytest.raises(UserError, match=r"result\.json cannot be read"):
        members(tmp_path, ())
