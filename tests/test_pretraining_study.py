"""The pretraining comparison: its plan, moments over all of training, one run, and the recorder, stopped and killed."""

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import tiny_pretraining_study as small
import torch
from reference import two_pass_moments
from test_pretrain_resume import Cut, cut_at

from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_model
from l2e_min.lab.pretraining_study import plan, record, run
from l2e_min.lab.pretraining_study.cumulative import Cumulative
from l2e_min.lab.pretraining_study.plan import RATES, SEARCH_SEED, SEEDS, STAGES, TREATMENTS, Run, best_rate, find
from l2e_min.lab.record import Record, rounded
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training.look import look, mean_cost
from l2e_min.lab.training.method_choice import DEACTIVATING
from l2e_min.lab.training.methods import attach_method, chosen_sites
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.stopping import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

# ---- the plan ------------------------------------------------------------------------------------------------------


def made(runs, loss=lambda run: 3.0) -> list[dict]:
    """Rows of these runs as they are read back from a file."""
    return json.loads(json.dumps(rounded([{"run": each.key, "validation_loss": loss(each)} for each in runs])))


def favourite(each: Run) -> float:
    """A rate for every treatment and size that is the best for it, so that each has its own."""
    return RATES[(sorted(plan.TREATMENTS_OF_GRID).index(each.treatment) + len(each.size)) % len(RATES)]


def planned() -> dict[str, list[Run]]:
    """What every stage makes when nothing is there, in order."""
    rows, stages = [], {}
    for stage, runs in STAGES.items():
        stages[stage] = [each for each in dict.fromkeys(runs(rows)) if find(rows, each) is None]
        rows += made(stages[stage], lambda each: 2.9 if each.rate == favourite(each) else 3.0)
    return stages


PLANNED = planned()


def test_the_best_rate_is_that_of_the_lowest_loss_at_the_search_seed():
    rows = made(
        [Run("memel", rate, SEARCH_SEED) for rate in RATES], lambda each: {2e-3: 3.2, 4e-3: 3.1}.get(each.rate, 3.3)
    )
    others = [
        Run("memel", 8e-3, 1),
        Run("memel", 8e-3, 0, steps=10),
        Run("memel", 8e-3, 0, "64x3"),
        Run("plain", 8e-3, 0),
    ]
    others += [
        Run("memel", 8e-3, 0, layers="all"),
        Run("memel", 8e-3, 0, start=2e-3),
        Run("memel", 8e-3, 0, share=0.01),
    ]
    assert best_rate(made(others, lambda _: 1.0) + rows, "memel") == 4e-3
    there = [Run("plain", rate, SEARCH_SEED, "64x6", layers="all") for rate in RATES]
    assert best_rate(made(there, lambda each: -each.rate), "plain", "64x6", "all") == max(RATES)


def test_without_the_search_there_is_no_best_rate():
    rows = made([Run("memel", rate, SEARCH_SEED) for rate in RATES[:-1]] + [Run("memel", RATES[-1], 1)])
    with pytest.raises(KeyError, match=r"memel at rate 0.008 has not been run at 128x4"):
        best_rate(rows, "memel")


def test_a_rate_at_which_the_loss_diverged_is_not_the_best():
    """An infinite loss is null in the file."""
    rows = made(
        [Run("memel", rate, SEARCH_SEED) for rate in RATES], lambda each: 3 if each.rate == RATES[1] else np.inf
    )
    assert [row["validation_loss"] for row in rows] == [None, 3, None]
    assert best_rate(rows, "memel") == RATES[1]


def test_the_search_tries_every_treatment_at_every_rate():
    assert {(each.treatment, each.rate) for each in PLANNED["search"]} == {(t, r) for t in TREATMENTS for r in RATES}
    assert {each.seed for each in PLANNED["search"]} == {SEARCH_SEED}
    others = [each for stage, runs in PLANNED.items() if not stage.endswith("search") for each in runs]
    assert SEARCH_SEED not in {each.seed for each in others}, "what chose the rate is not reported"


def test_treatments_are_compared_at_their_own_best_rate():
    everything = set().union(*PLANNED.values())
    for treatment in TREATMENTS:
        for seed in SEEDS:
            assert Run(treatment, favourite(Run(treatment, 0, 0)), seed) in everything
    for treatment in plan.MAIN:
        assert {Run(treatment, plan.LOW_RATE, seed) for seed in SEEDS} <= everything
    for treatment in plan.B03:
        assert {Run(treatment, plan.LOW_RATE, seed) for seed in plan.MORE_SEEDS} <= everything
    for each in PLANNED["compare"] + PLANNED["controls"] + PLANNED["long"] + PLANNED["scales"]:
        assert each.rate == favourite(each)
    assert {each.steps for each in PLANNED["long"] + PLANNED["scales"]} == {plan.LONG}
    assert {each.size for each in PLANNED["scales"]} == set(plan.SCALES)


def test_the_other_stages_vary_what_they_are_named_for():
    late, places, grid = (PLANNED[stage] for stage in ("late", "places", "grid"))
    peak = favourite(Run("plain", 0, 0))
    assert {(each.start, each.rate, each.steps) for each in late} == {(peak, peak / 10, plan.EARLY)}
    assert {each.treatment for each in late} >= {"plain", "memel", plan.L2E}
    inhibited = {(each.layers, each.seed) for each in places if each.treatment == plan.L2E}
    assert inhibited == {(place, seed) for place in plan.PLACES for seed in SEEDS}
    assert {each.seed for each in places if each.treatment == "plain"} == set(SEEDS)
    assert {each.size for each in places} == {plan.PLACE_SIZE} and {each.rate for each in places + grid} == {
        plan.GRID_RATE
    }
    everything = set().union(*PLANNED.values())
    for weight in plan.WEIGHTS:
        assert {Run(weight, plan.GRID_RATE, seed, share=s) for seed in SEEDS for s in plan.SHARES} <= everything
    assert {each.share for each in grid} == {0.02, *plan.SHARES}


def test_the_lead_is_tried_on_seeds_that_it_was_not_seen_on():
    assert not set(plan.LEAD_SEEDS) & {SEARCH_SEED, *SEEDS}
    for treatment in plan.LEAD:
        rate = favourite(Run(treatment, 0, 0))
        assert {Run(treatment, rate, seed, steps=plan.LONG) for seed in plan.LEAD_SEEDS} <= set(PLANNED["lead"])


def test_late_runs_begin_with_models_that_are_made_before():
    before = set(PLANNED["search"] + PLANNED["compare"] + PLANNED["low"])
    for each in PLANNED["late"]:
        assert dataclasses.replace(each, treatment="plain", rate=each.start, steps=plan.STEPS, start=0.0) in before


def test_no_two_runs_share_a_key_or_a_folder():
    runs = [each for stage in PLANNED.values() for each in stage]
    assert len({json.dumps(each.key) for each in runs}) == len(runs)
    assert len({each.folder.lower() for each in runs}) == len(runs)
    assert all(re.fullmatch(r"\d+x\d+/[\w.-]+", each.folder) for each in runs)


def test_a_run_is_found_again_in_a_file_and_all_settings_are_good():
    """Numbers are kept with five digits: a rate that needs more would be made again and again."""
    for each in [each for stage in PLANNED.values() for each in stage]:
        assert find(made([each]), each) is not None, each
        settings = each.settings()
        assert (settings.size, settings.seed, settings.learning_rate) == (each.size, each.seed, each.rate)
        assert settings.share in (0.0, each.share) and settings.layers == each.layers
    assert PretrainSettings(**Run("l2e .01", 2e-3, 1).settings().as_dict()).weight == 0.01


def test_early_weights_are_kept_of_what_claims_look_at():
    kept = [each for stage in PLANNED.values() for each in stage if plan.keeps_early(each)]
    low = {Run(t, plan.LOW_RATE, seed) for t in plan.MAIN for seed in SEEDS}
    assert low <= set(kept)
    assert all(each.steps == plan.STEPS and each.size == plan.SIZE and each.seed for each in kept)


# ---- moments over all of training ----------------------------------------------------------------------------------

TINY = {"size": "16x2", "steps": 16, "device": "cpu", **small.SETTINGS}


def collect(model, sites, seen: list, after: list) -> None:
    """From now on ``seen`` gets the neurons' values (tokens, N) as the non-linearity gives them, ``after`` those that
    the second linear layer is given: (site, values) each."""

    def keep(where, number):
        def hook(module, inputs, output=None):
            values = inputs[0] if output is None else output
            if module.training:
                where.append((number, values.detach().double().flatten(0, 1).numpy().copy()))

        return hook

    for number, site in enumerate(sites):
        model.get_submodule(site.name.rpartition(".")[0]).act.register_forward_hook(keep(seen, number))
        site.module.register_forward_pre_hook(keep(after, number))


def watched(out: Path, corpus, seen: list | None = None, after: list | None = None, **changes) -> Path:
    """Trains with a ``Cumulative``; its file. For ``seen`` and ``after`` see ``collect``."""
    settings = PretrainSettings(**{**TINY, **changes})

    def attach(model):
        sites = chosen_sites(model, settings.layers)
        watcher = Cumulative(sites, out / "moments.safetensors")
        penalty, extras = attach_method(settings)(model)
        if seen is not None:
            collect(model, sites, seen, after)
        return penalty, {**extras, "cumulative": watcher}

    p.pretrain(settings, out, checkpoint_every=5, attach=attach, corpus=corpus, progress=False)
    return out / "moments.safetensors"


def hold_to_values(found: list, seen: list, tokens: int) -> None:
    """The moments of each site are those of what was ``seen`` there."""
    for number, moments in enumerate(found):
        values = np.concatenate([z for at, z in seen if at == number])
        assert moments.count == len(values) == tokens
        mean, var = two_pass_moments(values)
        np.testing.assert_allclose(moments.mean, mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(moments.var, var, rtol=1e-4)


@pytest.mark.parametrize("method", ["plain", "memel", "l2e"])
def test_moments_are_those_of_all_batches_before_anything_is_deactivated(tmp_path, corpus, method):
    """Validation and looks take no part."""
    seen, after = [], []
    file = watched(tmp_path, corpus, seen, after, method=method)
    sites = chosen_sites(load_model(tmp_path / "model")[0], "middle-2")
    hold_to_values(Cumulative.read(sites, file), seen, 16 * 4 * 16)
    changed = any(not np.array_equal(a, b) for (_, a), (_, b) in zip(seen, after, strict=True))
    assert changed == (method in DEACTIVATING), "the second layer was given other values"
    assert not any(site.module._forward_pre_hooks for site in sites), "who reads leaves no hook"


@pytest.mark.slow
def test_moments_go_on_after_a_stop_and_count_a_recomputed_batch_once(tmp_path, corpus, monkeypatch):
    whole = watched(tmp_path / "whole", corpus, method="memel").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_at(9, patch)
        watched(tmp_path / "parts", corpus, method="memel")
    assert not (tmp_path / "parts" / "moments.safetensors").exists()
    assert watched(tmp_path / "parts", corpus, method="memel").read_bytes() == whole
    assert watched(tmp_path / "again", corpus, method="memel", activation_checkpointing=True).read_bytes() == whole


# ---- one run -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shrunk(monkeypatch):
    """The comparison in small, in this process."""
    small.shrink(monkeypatch.setattr)


def test_a_run_gives_its_row_once_and_for_all(tmp_path, shrunk, monkeypatch):
    each = small.tiny("l2e .003", 1)
    row = run.make(each, tmp_path)
    folder = tmp_path / each.folder
    assert row["run"] == each.key and not (folder / "checkpoints").exists()
    assert row["validation_loss"] == json.loads((folder / "result.json").read_text())["validation_loss"]
    model, _ = load_model(folder / "model")
    settings, sites = each.settings(), chosen_sites(model, "middle-2")
    held_out = run.held_out_rows(folder, settings)
    assert len(held_out[0]) == 8
    assert row["look"] == look(
        model, held_out, settings, sites, Cumulative.read(sites, folder / "cumulative.safetensors")
    )
    assert row["mean_cost"] == mean_cost(model, held_out, settings, sites)
    early, _ = load_model(folder / "snapshots", variant=f"step{small.EARLY}", tokenizer=folder / "tokenizer")
    assert row["early_look"] == look(early, held_out, settings, chosen_sites(early, "middle-2"))
    assert row["early_look"]["loss"] != row["look"]["loss"]
    assert row["curve"]["step"] == list(range(2, small.STEPS + 1, 2)) and len(row["curve"]["threshold"]) == 12
    assert row["curve"]["validation_loss"][:2] == [None, pytest.approx(row["validation_loss"], abs=5)]

    def never(*_):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(p, "training_step", never)
    assert {**run.make(each, tmp_path), "cpu_seconds": 0} == {**row, "cpu_seconds": 0}
    plain = small.tiny("plain", SEARCH_SEED)
    assert "snapshots" not in [file.name for file in (tmp_path / plain.folder).glob("*")]


def test_a_late_run_begins_with_the_plain_models_weights(tmp_path, shrunk, monkeypatch):
    start = small.tiny("plain", 1)
    late = small.tiny("memel", 1, small.PEAK / 10, steps=small.EARLY, start=small.PEAK)
    with pytest.raises(UserError, match=r"no (tokenizer\.json|model) in"):
        run.make(late, tmp_path / "nothing")
    run.make(start, tmp_path)
    given = {}

    def attach(settings):
        def at_first(model):
            given.update({name: value.clone() for name, value in model.state_dict().items()})
            return attach_method(settings)(model)

        return at_first

    monkeypatch.setattr(run, "attach_method", attach)
    row = run.make(late, tmp_path)
    trained, after = (load_model(tmp_path / each.folder / "model")[0].state_dict() for each in (start, late))
    assert set(trained) == set(given) and all(torch.equal(given[name], value) for name, value in trained.items())
    assert "early_look" not in row and row["curve"]["step"][-1] == small.EARLY
    assert any(not torch.equal(after[name], value) for name, value in trained.items()), "and trains on"


@pytest.mark.slow
def test_a_stopped_run_ends_in_the_same_row(tmp_path, shrunk, monkeypatch):
    """Of a method that deactivates, whose moments are those of the values before."""
    each, seen = small.tiny("memel", 1), []

    def attach(settings):
        def collecting(model):
            collect(model, chosen_sites(model, "middle-2"), seen, [])
            return attach_method(settings)(model)

        return collecting

    with monkeypatch.context() as patch:
        patch.setattr(run, "attach_method", attach)
        row = run.make(each, tmp_path / "whole")
    folder = tmp_path / "whole" / each.folder
    sites = chosen_sites(load_model(folder / "model")[0], "middle-2")
    hold_to_values(Cumulative.read(sites, folder / "cumulative.safetensors"), seen, small.STEPS * 4 * 16)
    step, done = p.training_step, []

    def stopping(*arguments):
        done.append(1)
        if len(done) == 15:  # after the early weights
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(p, "training_step", stopping)
        run.make(each, tmp_path / "parts")
    again = run.make(each, tmp_path / "parts")
    assert {**again, "cpu_seconds": 0} == {**row, "cpu_seconds": 0}


def test_a_diverged_run_gets_its_row(tmp_path, shrunk, monkeypatch):
    step = p.training_step
    monkeypatch.setattr(p, "training_step", lambda *a: (step(*a)[0] * float("nan"), torch.tensor(1.0)))
    each = small.tiny("plain", 0)
    row = record.attempt(each, tmp_path)
    assert row["run"] == each.key and row["validation_loss"] == np.inf and "at step 2" in row["diverged"]
    rows = Record(tmp_path / "runs.jsonl", {})
    rows.add(row)
    assert find(Record(tmp_path / "runs.jsonl", {}).rows, each)["validation_loss"] is None


# ---- the recorder --------------------------------------------------------------------------------------------------


class Inline:
    """Stands for a pool of processes: does what is submitted at once, here."""

    def __init__(self, *_, **__):
        pass

    def submit(self, do, *arguments):
        future = Future()
        try:
            future.set_result(do(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_):
        pass


@pytest.fixture
def calls(shrunk, monkeypatch):
    """The recorder in this process, with runs that cost nothing: what was made. A run's number of calls is its loss."""
    calls = []

    def make(each, out):
        calls.append(each)
        return {"run": each.key, "validation_loss": 3.0 + each.seed}

    monkeypatch.setattr(record, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(run, "make", make)
    return calls


def test_what_is_missing_is_made_and_what_is_there_is_not(tmp_path, calls, capsys):
    first = record.record(tmp_path / "out", tmp_path, ["search"])
    assert calls == [small.tiny("plain", 0), small.tiny("memel", 0)]
    assert {Run(**row["run"]) for row in first} == set(calls), "as they end"
    assert (tmp_path / "out" / "tokenizer").is_dir()
    everything = record.record(tmp_path / "out", tmp_path, list(small.STAGES))
    assert calls[2:4] == [small.tiny("plain", 1), small.tiny("memel", 1)] and len(calls) == 5, "no run twice"
    assert {Run(**row["run"]) for row in everything} == set(calls)
    assert record.record(tmp_path / "out", tmp_path, list(small.STAGES)) == everything and len(calls) == 5
    file = tmp_path / "runs.jsonl"
    lines = file.read_text().splitlines()
    assert "versions" in json.loads(lines[0])["header"] and len(lines) == 6
    file.write_text("".join(f"{line}\n" for line in lines if json.loads(line).get("run") != small.tiny("memel", 0).key))
    record.record(tmp_path / "out", tmp_path, list(small.STAGES))
    assert calls[5:] == [small.tiny("memel", 0)], "only what was taken out"
    assert record.results("runs", tmp_path) == json.loads(json.dumps(record.record(tmp_path, tmp_path, [])))
    assert capsys.readouterr().out.count("16x2/") == 6, "a line for every run that was made"


def test_a_stage_reads_the_rows_of_those_before(tmp_path, calls, monkeypatch):
    stages = {
        "one": small.STAGES["search"],
        "two": lambda rows: [small.tiny("plain", 1, rate=rows[0]["validation_loss"])],
    }
    monkeypatch.setattr(record, "STAGES", stages)
    record.record(tmp_path, tmp_path, ["one", "two"])
    assert calls[-1].rate == 3.0


def test_a_diverged_run_does_not_end_the_recording(tmp_path, calls, monkeypatch):
    whole = run.make

    def make(each, out):
        if each == small.tiny("memel", 0):
            raise UserError("the loss is nan at step 50: a lower --learning-rate may help")
        return whole(each, out)

    monkeypatch.setattr(run, "make", make)
    rows = record.record(tmp_path, tmp_path, ["search", "compare"])
    diverged = find(rows, small.tiny("memel", 0))
    assert len(rows) == 4 and diverged["validation_loss"] is None and "step 50" in diverged["diverged"]
    assert record.record(tmp_path, tmp_path, ["search", "compare"]) == rows and len(calls) == 3


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("the text is too short"), 2, "error: the text is too short\n"),
        (Interrupted(7, 130), 130, "stopped; the same command goes on where it was\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on where it was\n"),
    ],
)
def test_what_ends_a_recording_is_said_in_one_line_and_keeps_what_was_made(
    tmp_path, calls, monkeypatch, capsys, error, status, said
):
    whole = run.make

    def make(each, out):
        if each.seed == 1:
            raise error
        return whole(each, out)

    words = ["--out", str(tmp_path), "--record", str(tmp_path), "--stages", "search", "late"]
    monkeypatch.setattr(run, "make", make)
    assert record.main(words) == status and capsys.readouterr().err == said
    assert len(record.results("runs", tmp_path)) == 2
    monkeypatch.setattr(run, "make", whole)
    assert record.main(words) == 0 and len(calls) == 3


def test_bad_words_are_refused(tmp_path, calls, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="2"):
        record.main(["--out", str(tmp_path), "--workers", "0"])
    assert "--workers must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        record.main(["--out", str(tmp_path), "--stages", "tomorrow"])
    assert "invalid choice: 'tomorrow'" in capsys.readouterr().err
    monkeypatch.setattr(record, "STAGES", {"low": STAGES["compare"]})
    assert record.main(["--out", str(tmp_path), "--record", str(tmp_path), "--stages", "low"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: stage low needs an earlier one: plain at rate 0.002") and said.count("\n") == 1


class Recorder:
    """The recorder of the small comparison, with its processes in a group of their own.

    Forked, its processes, too, which saves their imports; or ``started`` as a reader starts it.
    """

    def __init__(self, folder: Path, *words: str, slow: str = "", started: bool = False):
        words = ["--out", str(folder / "out"), "--record", str(folder), *words, "--stages", *small.STAGES]
        self.rows, self.said = folder / "runs.jsonl", folder / "said"
        folder.mkdir(exist_ok=True)
        with open(self.said, "w") as said:
            self.id = started_recorder(words, said) if started else forked_recorder(words, said, slow)

    def over(self) -> int | None:
        """The recorder's exit status, None while it runs."""
        ended, status = os.waitpid(self.id, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None

    def wait_for(self, there) -> None:
        end = time.monotonic() + 300
        while not there():
            assert self.over() is None and time.monotonic() < end, self.said.read_text()
            time.sleep(0.02)

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """(status, standard error), after this signal to all of its processes."""
        if number is not None:
            os.killpg(self.id, number)
        _, status = os.waitpid(self.id, 0)
        return os.waitstatus_to_exitcode(status), self.said.read_text()

    def alive(self) -> bool:
        """Whether a process of the group is left."""
        try:
            os.killpg(self.id, 0)
        except ProcessLookupError:
            return False
        return True


def forked_recorder(words: list[str], said, slow: str) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(said.fileno(), 2)
            sys.stderr, sys.stdout = open(2, "w", buffering=1), open(os.devnull, "w")
            small.shrink(setattr)
            run.make = small.slowly(run.make, slow) if slow else run.make
            record.get_context = lambda _: multiprocessing.get_context("fork")
            status = record.main(words)
        finally:
            os._exit(status)
    return child


def started_recorder(words: list[str], said) -> int:
    return subprocess.Popen(
        [sys.executable, small.__file__, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ).pid


def lines(file: Path) -> int:
    return file.read_text().count("\n") if file.is_file() else 0


STOPPED = (130, "stopped; the same command goes on where it was\n")


@pytest.mark.slow
def test_killed_or_stopped_it_goes_on_and_makes_nothing_twice(tmp_path):
    """Killed in the third run, then stopped there with Ctrl-C, with all of its processes; then let alone."""
    third, fourth = (tmp_path / "out" / small.tiny(t, 1).folder / "training_log.csv" for t in ("plain", "memel"))
    first = Recorder(tmp_path, slow=third.parent.name)
    first.wait_for(lambda: lines(third) > 3)
    assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    before = first.rows.read_text()
    assert before.count("\n") == 3
    first.rows.write_text(before + before.splitlines()[2][:40])  # as a kill while a line is written leaves it
    third.unlink()
    second = Recorder(tmp_path, slow=third.parent.name)
    second.wait_for(lambda: lines(third) > 3)
    assert second.end(signal.SIGINT) == STOPPED and not second.alive()
    assert second.rows.read_text() == before
    assert list(third.parent.glob("checkpoints/step-*")), "what was stopped has been saved"
    assert not fourth.parent.exists(), "the next one was not begun"
    assert Recorder(tmp_path).end() == (0, "")
    assert second.rows.read_text().startswith(before)
    assert Recorder(tmp_path / "whole", "--workers", "2").end() == (0, "")
    found, whole = (
        sorted(({**row, "cpu_seconds": 0} for row in record.results("runs", folder)), key=lambda row: str(row["run"]))
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert found == whole and len({json.dumps(row["run"]) for row in found}) == len(found) == 5


def test_a_recorder_that_is_killed_alone_takes_its_processes_along(tmp_path):
    """Else they would go on in the folders in which the next one trains."""
    log = tmp_path / "out" / small.tiny("plain", 0).folder / "training_log.csv"
    alone = Recorder(tmp_path, slow=log.parent.name)
    alone.wait_for(lambda: lines(log) > 1)
    os.kill(alone.id, signal.SIGKILL)
    assert alone.end()[0] == -signal.SIGKILL
    end = time.monotonic() + 3  # the run takes longer
    while alone.alive() and time.monotonic() < end:
        time.sleep(0.02)
    assert not alone.alive()


@pytest.mark.slow
def test_ctrl_c_while_the_processes_start_is_one_line_too(tmp_path):
    """They import for seconds, and nobody wants to see their tracebacks."""
    early = Recorder(tmp_path, "--workers", "2", started=True)
    early.wait_for((tmp_path / "out" / "tokenizer").is_dir)
    time.sleep(0.3)
    assert early.end(signal.SIGINT) == STOPPED and lines(early.rows) == 1
