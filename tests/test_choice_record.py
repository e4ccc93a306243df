"""The record of the suite: resumed, held to its questions, summed up rightly; and the harness, by a stand-in for it."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from l2e_min.lab import hub
from l2e_min.lab.choice import harness
from l2e_min.lab.choice import record as recording
from l2e_min.lab.choice.harness import HARNESS_TASKS, harness_tasks
from l2e_min.lab.choice.item import ChoiceTask, Item
from l2e_min.lab.choice.tasks import TASKS
from l2e_min.lab.errors import UserError
from l2e_min.lab.paths import DATA
from l2e_min.lab.record import rounded

FOLDER = DATA / "models" / "mini-pythia-128x4"


@pytest.fixture
def few(monkeypatch):
    """Two tasks of a few questions in place of the real ones; returns the calls of `evaluate`."""

    def tasks(items, shots):
        item = Item("def f(x", (")", "]", "}", ">"), 0, "f.py", "python", ("a[1]",) * shots)
        return [ChoiceTask(name, name, "sum", shots, (item,) * items) for name in ("one", "two")]

    calls, evaluate = [], recording.evaluate
    monkeypatch.setattr(recording, "choice_tasks", tasks)
    monkeypatch.setattr(recording, "evaluate", lambda *a: calls.append(1) or evaluate(*a))
    return calls


def test_the_record_goes_on_where_it_was_stopped(few, tmp_path):
    out, said = tmp_path / "record.json", []
    recording.record(out, 4, {"32x2": (0,)}, said.append)
    assert len(few) == 2 and [line[:20] for line in said] == ["32x2 seed 0, 0 shots", "32x2 seed 0, 5 shots"]
    content = recording.record(out, 4, {"32x2": (0, 1)}, said.append)
    assert len(few) == 4 and len(content["rows"]) == 4
    there = json.loads(out.read_text())
    assert there["rows"] == rounded(content["rows"]) and there["summary"] == rounded(recording.summary(content["rows"]))
    assert [row["tasks"]["one"]["examples"] for row in there["rows"]] == [0, 5, 0, 5]
    assert "32x2" in recording.table(content) and not list(tmp_path.glob("*.tmp"))


def test_a_record_of_other_questions_is_not_mixed_with_these(few, tmp_path, capsys):
    out = tmp_path / "record.json"
    recording.record(out, 4, {"32x2": (0,)}, lambda line: None)
    with pytest.raises(UserError, match="other questions"):
        recording.record(out, 8, {"32x2": (0,)})
    out.write_text("[]")
    assert recording.main(["--out", str(out)]) == 2
    assert "is not a record of the choice tasks" in capsys.readouterr().err


def planted(scale, parameters, accuracy, seed=0):
    score = {"accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "n": 320, "alone": 0.2}
    return {"scale": scale, "seed": seed, "shots": 0, "parameters": parameters, "tasks": {"t": score, "u": score}}


def test_the_summary_finds_a_planted_slope_and_what_is_above_chance():
    sizes = {"a": 10**4, "b": 10**5, "128x4": 10**6}
    rising = [planted(scale, n, 0.1 + 0.1 * np.log10(n) - 0.19 + 1e-3 * seed, seed)
              for scale, n in sizes.items() for seed in (0, 1)]  # fmt: skip
    (first, second) = recording.summary(rising)
    assert first["slope"] == pytest.approx(10, abs=0.01) and first["rising"] is True
    assert first["slope_low"] < 10 < first["slope_high"] < 11
    assert first["above_chance"] == 6 and first["by_scale"]["b"] == pytest.approx(0.4105)
    assert (first["hard"], second["hard"]) == (True, False)  # equal scores: by name
    flat = [planted(scale, n, 0.28 + 0.01 * seed, seed) for scale, n in sizes.items() for seed in (0, 1)]
    assert not recording.summary(flat)[0]["rising"] and recording.summary(flat)[0]["above_chance"] == 0


def test_the_shipped_record_holds_the_whole_suite():
    content = json.loads((DATA / "results" / "choice_suite.json").read_text())
    measured = {(row["scale"], row["seed"], row["shots"]) for row in content["rows"]}
    assert measured == {(s, seed, shots) for s, seeds in recording.SUITE.items() for seed in seeds for shots in (0, 5)}
    for row in content["rows"]:
        assert list(row["tasks"]) == list(TASKS)
        assert all(s["low"] <= s["accuracy"] <= s["high"] and s["n"] == 320 for s in row["tasks"].values())
    # What a question gives away by its choices is chance, give or take the 320 items of one task.
    assert max(s["alone"] for row in content["rows"] for s in row["tasks"].values()) < 0.36
    assert recording.table(content).count("\n") == 14


# --- the harness ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(monkeypatch):
    """A module with lm_eval's interface; `answer` is what it returns. Returns what it was called with."""
    seen = SimpleNamespace(calls=[], answer=None, wrapped=None)

    def simple_evaluate(model, tasks, num_fewshot, limit, log_samples):
        seen.calls.append((tasks, num_fewshot, limit))
        assert model is seen.wrapped
        if isinstance(seen.answer, Exception):
            raise seen.answer
        if seen.answer is not None:
            return seen.answer
        parts = {f"{tasks[0]}_{i}": {"original": 100, "effective": 40} for i in range(2)}
        whole = {tasks[0]: {"original": 40, "effective": 40}}
        row = {"acc,none": 0.3, "acc_stderr,none": 0.05, "acc_norm,none": 0.9}
        return {"results": {tasks[0]: row}, "n-samples": parts if tasks[0] == "mmlu" else whole}

    def wrap(pretrained, tokenizer, batch_size):
        assert pretrained.config.model_type == "gpt_neox" and not pretrained.training
        assert tokenizer("a").input_ids and batch_size == 16
        seen.wrapped = object()
        return seen.wrapped

    module, models, huggingface = (ModuleType(n) for n in ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface"))
    module.simple_evaluate, huggingface.HFLM = simple_evaluate, wrap
    for one in (module, models, huggingface):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    return seen


def test_the_harness_scores_a_saved_model(stand_in):
    scores = harness_tasks(FOLDER, shots=5, limit=40)
    assert list(scores) == list(HARNESS_TASKS)
    assert stand_in.calls == [([name], 5, 40) for name in HARNESS_TASKS]
    assert scores["arc_easy"].accuracy == 0.3 and scores["arc_easy"].n == 40 and scores["mmlu"].n == 80
    assert scores["arc_easy"].low == pytest.approx(0.1807, abs=1e-3)  # Wilson for 12 of 40
    assert scores["arc_easy"].high == pytest.approx(0.4543, abs=1e-3)


def test_what_the_harness_cannot_do_is_one_line(stand_in, monkeypatch, tmp_path):
    for answer, message in (
        (KeyError("no such task"), "lm_eval cannot run 'riddles': 'no such task'"),
        ({"results": {"riddles": {"exact_match,none": 0.5}}, "n-samples": {}}, "no accuracy .*exact_match,none"),
        ({"results": {"riddles": {"acc,none": "N/A"}}, "n-samples": {"riddles": {"effective": 4}}}, "no accuracy"),
        ({"results": {"riddles": {"acc,none": float("nan")}}, "n-samples": {"r": {"effective": 4}}}, "no accuracy"),
    ):
        stand_in.answer = answer
        with pytest.raises(UserError, match=message) as caught:
            harness_tasks(FOLDER, ["riddles"])
        assert "\n" not in str(caught.value)
    for options, message in (({"tasks": []}, "expected a list"), ({"tasks": "piqa"}, "expected a list"),
                             ({"shots": -1}, "shots is -1")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            harness_tasks(FOLDER, **options)
    with pytest.raises(UserError, match="no model in"):
        harness_tasks(tmp_path)
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(hub, "offline", lambda: False)
    with pytest.raises(UserError, match="cannot read the questions of piqa"):
        harness_tasks(FOLDER, ["piqa"])


def test_without_the_harness_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match="pip install lm_eval, or use choice_tasks"):
        harness_tasks(FOLDER)
    with pytest.raises(UserError):
        harness._harness()
