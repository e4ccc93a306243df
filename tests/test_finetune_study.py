"""What chapter 6 stands on: the recorded comparison is whole, of the tasks of today, and other profiles take GLUE."""

import json

import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning import cost, decrease
from l2e_min.lab.finetuning.compare import fingerprint
from l2e_min.lab.finetuning.record import TRAIN_ROWS, W24_RATES, study
from l2e_min.lab.finetuning.split import without_task_files
from l2e_min.lab.finetuning.table import scores
from l2e_min.lab.mini_bert import shipped_bert
from l2e_min.lab.settings import PROFILES
from l2e_min.lab.text.corpus import load_corpus

QUICK = study(PROFILES["quick"])


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return QUICK.rows()


@pytest.mark.parametrize("method", [*QUICK.protocol.methods, "random"])
def test_every_reported_run_is_on_record(rows, method):
    by_task = scores(rows, QUICK.protocol, method)
    assert list(dict.fromkeys(by_task)) and set(by_task) == set(PROFILES["quick"].tasks)
    assert all(len(values) == len(QUICK.protocol.seeds) for values in by_task.values())


def test_a_missing_run_is_not_passed_over(rows):
    victim = next(row for row in rows if row["method"] == "memel" and row["seed"] == 3 and row["reading"] == "neuron")
    with pytest.raises(UserError, match="are missing"):
        scores([row for row in rows if row is not victim], QUICK.protocol, "memel")


def test_no_run_stands_twice(rows):
    keys = [
        json.dumps({name: row[name] for name in row if name not in ("dev", "test", "test_on", "curve")}) for row in rows
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_the_recorded_rows_are_those_of_today(rows):
    trained_on = json.loads((shipped_bert() / "training.json").read_text())["text"]["fingerprint"]
    if without_task_files(load_corpus()).fingerprint != trained_on:
        pytest.skip("the installed text is another one than where the runs were made")
    kept = {row["task"]: row["texts"] for row in rows}
    for task in QUICK.tasks():
        assert len(task.train) <= TRAIN_ROWS
        assert fingerprint(task) == kept[task.name], task.name


@pytest.mark.slow
def test_controls_that_were_made_are_known(rows):
    accept, topic = (next(t for t in QUICK.tasks() if t.name == name) for name in ("accept", "topic"))
    assert QUICK.has(rows, accept, "entry")
    assert not QUICK.has(rows, topic, "entry")


def test_baselines_stand_beside_every_task():
    found = QUICK.baselines()
    for name in PROFILES["quick"].tasks:
        assert {"majority", "bag_of_words"} <= set(found[name])


def test_the_other_records_can_be_read():
    assert {row["method"] for row in decrease.read()["rows"]} >= {"plain", "freeze", "straight_through", "memel"}
    assert {row.method for row in cost.read()} >= {"plain", "memel", "l2e"}


@pytest.mark.parametrize("profile", ["gpu", "paper"])
def test_larger_profiles_take_bert_base_and_glue_with_the_papers_recipe(profile):
    found = study(PROFILES[profile])
    assert found.model == "hub:google-bert/bert-base-uncased"
    assert set(PROFILES[profile].tasks) >= {"rte", "mrpc", "stsb", "cola"}
    assert found.protocol.rates == W24_RATES
    assert found.protocol.base.head == "cls" and found.protocol.base.batch == 32 and found.protocol.base.epochs == 3
