"""The suite: one order of the text for all, snapshots where they belong, resumed bit for bit, exported as it is."""

import argparse
import json
import os
import random
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from l2e_min.lab.commands import pretrain as command_module
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_model, load_suite, untrained
from l2e_min.lab.paths import DATA
from l2e_min.lab.tokenizer import load_tokenizer
from l2e_min.lab.training import pretrain as p
from l2e_min.lab.training import suite as s
from l2e_min.lab.training.suite_export import command, export_suite, suite_card, summarize

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"steps": 12, "batch": 2, "context": 16, "log_every": 3, "validate_every": 6, "vocabulary": 300, "device": "cpu"}
RUNS = [s.Run("16x1", 0, True, (2, 8)), s.Run("16x1", 1, True, ()), s.Run("32x1", 0, True, (4,))]


@pytest.fixture(scope="module")
def corpus():
    def words(seed: int) -> str:
        draw = random.Random(seed)
        return " ".join(draw.choice(["the", "neuron", "def", "return", "value", "of", "layer"]) for _ in range(200))

    documents = [SimpleNamespace(text=words(seed)) for seed in range(12)]
    return SimpleNamespace(name="words", train=documents[:10], validation=documents[10:], fingerprint="f" * 64)


def train(out: Path, corpus, runs=None, every: int = 5, **changes) -> list[dict]:
    options = {**TINY, **changes}
    return s.train_suite(
        out, runs or RUNS, checkpoint_every=every, corpus=corpus, progress=False, say=lambda line: None, **options
    )


def weights(folder: Path) -> dict[str, bytes]:
    """Every weight and log of a suite, as bytes."""
    files = [*folder.rglob("model*.safetensors"), *folder.rglob("training_log.csv")]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus):
    out = tmp_path_factory.mktemp("suite")
    return out, train(out, corpus)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, trained, corpus):
    target = tmp_path_factory.mktemp("models") / "suite"
    return target, export_suite(trained[0], target, RUNS, corpus=corpus)


# ---- training ----------------------------------------------------------------------------------------------------


def test_the_default_suite_is_five_scales_and_seeds_of_three():
    runs = [str(run) for run in s.plan()]
    sizes = ("32x2", "64x3", "128x4", "192x5", "256x6")
    assert runs == [f"{size} seed {seed}" for size in sizes for seed in range(3)]
    assert sum(bool(run.steps) for run in s.plan()) >= 3, "scales whose snapshots ship"
    assert [str(run) for run in s.plan(["96x2", "64x3"], [4, 5])] == [
        f"{size} seed {seed}" for size in ("96x2", "64x3") for seed in (4, 5)
    ]
    assert all(run.ships for run in s.plan(["128x4"], [2])), "what is asked for by seed ships"
    assert s.snapshot_steps(2000) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert s.snapshot_steps(8) == [1, 2, 4, 8] and s.snapshot_steps(7) == [1, 2, 4]
    for run in s.plan():
        assert set(run.steps) <= set(s.snapshot_steps(s.DEFAULTS["steps"]))


def test_every_scale_and_seed_reads_the_same_rows_in_the_same_order(tmp_path, corpus, monkeypatch):
    seen, step = [], p.training_step
    monkeypatch.setattr(p, "training_step", lambda *a: (seen.append(a[2].clone()), step(*a))[1])
    train(tmp_path, corpus)
    first, *others = (torch.cat(seen[at : at + 12]) for at in range(0, 36, 12))
    assert first.shape == (24, 16) and len(first.unique(dim=0)) == 24
    assert all(torch.equal(first, other) for other in others)


def test_seeds_differ_in_their_initial_weights(trained):
    _, results = trained
    assert [(r["settings"]["seed"], r["settings"]["data_seed"]) for r in results] == [(0, 0), (1, 0), (0, 0)]
    assert results[0]["validation_loss"] != results[1]["validation_loss"]
    assert {json.dumps(r["text"]) for r in results} == {json.dumps(results[0]["text"])}


def test_without_a_data_seed_the_seed_moves_the_order(tmp_path, corpus):
    settings = p.PretrainSettings(size="16x1", seed=3, **TINY)
    assert settings.data_seed == 3
    orders = [
        p.prepare_text(p.PretrainSettings(size="16x1", seed=seed, **TINY, **more), tmp_path, corpus=corpus).training
        for seed, more in ((3, {}), (4, {}), (4, {"data_seed": 3}))
    ]
    rows = [order.read(0, 8)[0] for order in orders]
    assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])


def test_the_largest_scale_has_a_lower_learning_rate_unless_told():
    rates = [s.settings_of(run, {}).learning_rate for run in s.plan() if run.seed == 0]
    assert rates == [4e-3, 4e-3, 4e-3, 4e-3, 2e-3]
    assert s.settings_of(s.plan(["256x6"])[0], {"learning_rate": 1e-3}).learning_rate == 1e-3


def test_one_tokenizer_for_all(trained):
    out, _ = trained
    shared = (out / "tokenizer" / "tokenizer.json").read_bytes()
    for run in RUNS:
        assert (out / run.folder / "model" / "tokenizer.json").read_bytes() == shared


def test_snapshots_are_the_weights_after_these_steps(trained, tmp_path, corpus):
    out, _ = trained
    for run in RUNS:
        there = sorted(int(f.name.split(".")[1][4:]) for f in (out / run.folder / "snapshots").glob("model.step*"))
        assert there == [1, 2, 4, 8], run
    by_step, optimizer_step = {}, p.training_step

    def watch(model, *rest):
        done = optimizer_step(model, *rest)
        by_step[len(by_step) + 1] = {name: value.clone() for name, value in model.state_dict().items()}
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(p, "training_step", watch)
        train(tmp_path, corpus, RUNS[:1])
    for step in (1, 2, 4, 8):
        model, _ = load_snapshot(out / "16x1/seed0", step)
        for name, value in model.state_dict().items():
            assert torch.equal(value, by_step[step][name]), (step, name)


def load_snapshot(run: Path, step: int):
    return load_model(run / "snapshots", variant=f"step{step}", tokenizer=run / "tokenizer")


def killed_at(step: int, out: Path, corpus) -> None:
    """A child trains the suite in ``out``, going on with what is there, and is killed before its step ``step``."""
    child = os.fork()
    if child == 0:
        steps, whole_step = 0, p.training_step

        def deadly(*args):
            nonlocal steps
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return whole_step(*args)

        p.training_step = deadly
        try:
            train(out, corpus)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("kills", [(3,), (9, 8), (14, 20)])
@pytest.mark.slow
def test_killed_and_called_again_it_ends_in_the_same_bits(tmp_path, corpus, trained, kills):
    """Before the first checkpoint; between a snapshot and the next checkpoint; in the second and in the third run."""
    for step in kills:
        killed_at(step, tmp_path, corpus)
    train(tmp_path, corpus)
    assert weights(tmp_path) == weights(trained[0])


def test_a_snapshot_is_on_the_disk_before_the_checkpoint_that_would_skip_it(tmp_path, corpus, monkeypatch):
    saved, save = [], p.save_checkpoint

    def look(folder, step, *rest):
        saved.append((step, (tmp_path / "16x1/seed0/snapshots" / f"model.step{step}.safetensors").is_file()))
        return save(folder, step, *rest)

    monkeypatch.setattr(p, "save_checkpoint", look)
    train(tmp_path, corpus, RUNS[:1], every=4)
    assert saved == [(4, True), (8, True), (12, False)]


def test_finished_runs_are_only_read(trained, corpus, monkeypatch):
    monkeypatch.setattr(p, "training_step", lambda *a: pytest.fail("trained again"))
    lines = []
    again = s.train_suite(trained[0], RUNS, progress=False, say=lines.append, **TINY)
    assert again == trained[1]
    assert len(lines) == 3 and lines[1].startswith("16x1 seed 1: 12 steps, 384 tokens; validation loss ")


def test_other_settings_and_other_text_are_refused(trained, corpus, tmp_path):
    with pytest.raises(UserError, match="another learning_rate"):
        train(trained[0], corpus, learning_rate=0.5)
    other = SimpleNamespace(**{**vars(corpus), "fingerprint": "0" * 64})
    with pytest.raises(UserError, match=r"the text is not the one the suite in .* began with"):
        train(trained[0], other, [*RUNS, s.Run("16x2", 0, True, ())])
    with pytest.raises(UserError, match="no such size: 'big'"):
        train(tmp_path / "new", corpus, [*RUNS, s.Run("big", 0, True, ())])
    assert not (tmp_path / "new").exists(), "bad settings are refused before anything is trained"


# ---- export ------------------------------------------------------------------------------------------------------


def test_what_is_exported_loads_as_what_was_trained(trained, exported):
    out, (target, _) = trained[0], exported
    for run in RUNS:
        for step in (None, *run.steps):
            source = out / run.folder / ("model" if step is None else "snapshots")
            stored = load_file(source / ("model.safetensors" if step is None else f"model.step{step}.safetensors"))
            model, tokenizer = load_suite(run.size, run.seed, step, folder=target)
            assert not model.training and next(model.parameters()).dtype == torch.float32
            for name, value in model.state_dict().items():
                assert torch.equal(value, stored[name.replace("lm_head", "embed_out")].half().float()), (run, step)
            assert tokenizer("def neuron").input_ids
    assert [str(f.relative_to(target)) for f in target.rglob("tokenizer.json")] == ["tokenizer/tokenizer.json"]


def test_step_zero_is_the_start_of_training(exported):
    model, _ = load_suite("16x1", 1, 0, folder=exported[0])
    start = untrained("16x1", seed=1, vocabulary=model.config.vocab_size, context=16)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True))


def test_the_table_says_what_the_runs_say(trained, exported):
    target, summary = exported
    card = (target / "README.md").read_text()
    assert json.loads((target / "suite.json").read_text()) == json.loads(json.dumps(summary))
    assert [(r["scale"], r["seed"]) for r in summary["runs"]] == [("16x1", 0), ("16x1", 1), ("32x1", 0)]
    for row, result in zip(summary["runs"], trained[1], strict=True):
        assert row["validation_loss"] == result["validation_loss"]
        assert row["exported_validation_loss"] == pytest.approx(row["validation_loss"], abs=0.01)
        assert f"| {row['parameters']:,} |" in card and f"| {row['validation_bits_per_byte']:.3f} |" in card
    assert [k["step"] for k in summary["runs"][0]["snapshots"]] == [2, 8]
    assert "not here: 32x2 seed 0, " in card
    assert str(target.parent) not in card and str(trained[0]) not in card


def test_the_loss_of_a_snapshot_is_that_of_its_weights(exported, trained, corpus):
    target, summary = exported
    settings = p.PretrainSettings(size="16x1", **TINY)
    text = p.prepare_text(settings, trained[0] / "16x1/seed0", corpus=corpus, progress=False)
    model, _ = load_suite("16x1", 0, 8, folder=target)
    expected = p.validate(model, text, settings, rows=8 * settings.validation_rows)["validation_loss"]
    first, last = (k["validation_loss"] for k in summary["runs"][0]["snapshots"])
    assert last == expected != first


@pytest.mark.slow
def test_an_export_can_grow_and_repeat_itself(trained, corpus, tmp_path):
    export_suite(trained[0], tmp_path / "suite", RUNS[:1], corpus=corpus)
    grown = export_suite(trained[0], tmp_path / "suite", RUNS[1:], corpus=corpus)
    assert len(grown["runs"]) == 3
    before = weights(tmp_path)
    assert export_suite(trained[0], tmp_path / "suite", RUNS, corpus=corpus) == grown and weights(tmp_path) == before


def test_what_cannot_be_exported_is_named(trained, corpus, exported, tmp_path):
    with pytest.raises(UserError, match="no run of this suite is finished"):
        export_suite(tmp_path, tmp_path / "out", RUNS, corpus=corpus)
    with pytest.raises(UserError, match="has no snapshot of step 3; it was trained without"):
        export_suite(trained[0], tmp_path / "out", [s.Run("16x1", 1, True, (3,))], corpus=corpus)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="something that is not an exported suite"):
        export_suite(trained[0], tmp_path, RUNS, corpus=corpus)


def test_what_does_not_ship_stays_home_and_two_texts_do_not_mix(trained, corpus, tmp_path):
    target = tmp_path / "suite"
    home = s.Run("16x1", 1, False, ())
    assert [r["seed"] for r in export_suite(trained[0], target, [RUNS[0], home], corpus=corpus)["runs"]] == [0]
    summary = json.loads((target / "suite.json").read_text())
    summary["text"]["fingerprint"] = "0" * 64
    (target / "suite.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="holds a suite trained on other text"):
        export_suite(trained[0], target, RUNS, corpus=corpus)


def test_what_is_not_in_the_suite_is_named_with_what_is(exported):
    with pytest.raises(UserError, match=r"no 64x9 of seed 0; it has 16x1 seed 0, 16x1 seed 1, 32x1 seed 0"):
        load_suite("64x9", folder=exported[0])
    with pytest.raises(UserError, match=r"no 16x1 of seed 0 at step 4; it has \[0, 2, 8\] and the end"):
        load_suite("16x1", 0, 4, folder=exported[0])


# ---- the command line --------------------------------------------------------------------------------------------


def run_command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command_module.add_arguments(parser)
    return command_module.run(parser.parse_args(words))


@pytest.mark.slow
def test_the_command_trains_goes_on_and_exports(tmp_path, corpus, monkeypatch, capsys):
    monkeypatch.setattr("l2e_min.lab.text.corpus.load_corpus", lambda text: corpus)
    out, target = tmp_path / "suite", tmp_path / "models"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    words = ["suite", "--out", str(out), *options, "--quiet", "--scales", "16x1", "32x1", "--seeds", "0", "1"]
    assert run_command(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[3].startswith("32x1 seed 1: 12 steps")
    assert run_command(*words, "--export", str(target)) == 0
    assert load_suite("32x1", 1, folder=target / "suite")
    card = (target / "suite" / "README.md").read_text()
    assert "--vocabulary 300" in card and command(json.loads((out / "16x1/seed0/settings.json").read_text())) in card


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, corpus, trained, monkeypatch, capsys):
    monkeypatch.setattr("l2e_min.lab.text.corpus.load_corpus", lambda text: corpus)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    words = ["suite", "--out", str(tmp_path), *options, "--quiet", "--scales", "16x1", "--seeds", "0", "1"]
    steps, step = [], p.training_step

    def interrupted(*args):
        steps.append(1)
        if len(steps) == 15:  # the third step of the second run
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(p, "training_step", interrupted)
        assert run_command(*words) == 130
    assert "stopped after step 3 of a run, saved; the same command goes on" in capsys.readouterr().err
    assert run_command(*words) == 0
    for run in RUNS[:2]:
        assert weights(tmp_path / run.folder / "model") == weights(trained[0] / run.folder / "model")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suite", "--size", "16x1"], "--size is for a single run; use --scales"),
        (["suite", "--seed", "1"], "--seed is for a single run; use --seeds"),
        (["suite", "--data-seed", "1"], "--data-seed is for a single run"),
        (["--scales", "16x1"], "--scales is for a suite"),
        (["suite", "--scales", "17x1"], "no such size: '17x1'"),
        (["suite", "--steps", "0"], "steps must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run_command(*words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is not a suite"):
        run_command("suite", "--out", str(tmp_path))


# ---- what ships --------------------------------------------------------------------------------------------------

SHIPPED = DATA / "models" / "suite"


def test_models_stay_small():
    files = [f for f in (DATA / "models").rglob("*") if f.is_file()]
    bert = [f for f in files if "mini-bert-128x4" in f.parts]
    assert sum(f.stat().st_size for f in bert) < 3_000_000
    assert sum(f.stat().st_size for f in files) - sum(f.stat().st_size for f in bert) < 30_000_000  # all Pythias


def shipped() -> dict:
    return json.loads((SHIPPED / "suite.json").read_text())


def test_in_the_shipped_table_the_loss_falls_with_scale():
    runs = [run for run in shipped()["runs"] if run["seed"] == 0]
    assert [run["scale"] for run in runs][:3] == ["32x2", "64x3", "128x4"]
    for name in ("parameters", "parameters_without_embeddings"):
        assert all(small[name] < large[name] for small, large in pairwise(runs))
    for name in ("validation_loss", "exported_validation_loss", "exported_validation_bits_per_byte"):
        assert all(small[name] > large[name] + 0.02 for small, large in pairwise(runs)), name


def test_in_the_shipped_table_seeds_are_closer_than_scales():
    losses = {}
    for run in shipped()["runs"]:
        losses.setdefault(run["scale"], []).append(run["validation_loss"])
    for small, large in pairwise(losses.values()):
        assert min(small) > max(large)
    assert len(losses["32x2"]) == len(losses["64x3"]) == 3


def test_the_shipped_card_is_the_one_its_records_give():
    summary = summarize(SHIPPED)
    assert summary == shipped() and suite_card(summary) == (SHIPPED / "README.md").read_text()
    for run in summary["runs"]:
        facts = json.loads((SHIPPED / run["scale"] / f"seed{run['seed']}" / "training.json").read_text())
        assert facts["text"] == summary["text"] and facts["versions"] == summary["versions"]
        same = {**facts["settings"], "size": "", "seed": 0, "data_seed": 0, "learning_rate": 0.004}
        assert same == {**summary["settings"], "size": "", "seed": 0} and facts["settings"]["data_seed"] == 0


def test_what_ships_is_what_the_plan_says():
    there = {(run["scale"], run["seed"]): tuple(k["step"] for k in run["snapshots"]) for run in shipped()["runs"]}
    planned = {(run.size, run.seed): run.steps for run in s.plan() if run.ships}
    assert all(planned[run] == steps for run, steps in there.items())
    for run, steps in there.items():
        files = {f.name for f in (SHIPPED / run[0] / f"seed{run[1]}").glob("*.safetensors")}
        assert files == {"model.safetensors", *(f"model.step{step}.safetensors" for step in steps)}
    on_disk = {(f.parent.parent.name, int(f.parent.name[4:])) for f in SHIPPED.glob("*/*/model.safetensors")}
    assert on_disk == set(there)


def test_the_shipped_suite_reads_as_the_shipped_model_reads():
    ours, theirs = (load_tokenizer(folder) for folder in (SHIPPED / "tokenizer", DATA / "models" / "mini-pythia-128x4"))
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()


PROSE = "def __init__(self, name):\n    self.name = name\n\n    def __repr__(self):\n        return self.name\n"


@pytest.mark.parametrize("scale", ["32x2", "64x3", "128x4"])
def test_shipped_weights_get_better_along_training(scale):
    [row] = [run for run in shipped()["runs"] if (run["scale"], run["seed"]) == (scale, 0)]
    steps = [k["step"] for k in row["snapshots"]]
    assert steps and row["snapshots"][-1]["validation_loss"] > row["exported_validation_loss"]
    held_out = [k["validation_loss"] for k in row["snapshots"]]
    assert held_out == sorted(held_out, reverse=True)
    losses = []
    for step in (0, *steps, None):
        model, tokenizer = load_suite(scale, 0, step)
        ids = torch.tensor([tokenizer(PROSE).input_ids])
        with torch.no_grad():
            losses.append(model(input_ids=ids, labels=ids).loss.item())
    assert losses[0] > 6.5 and losses[1] < losses[0] and losses[-1] < 3.5 and losses[-1] < losses[1] - 1
