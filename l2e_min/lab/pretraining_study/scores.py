"""What the finished models of the comparison can do: multiple choice, and the feature datasets of W25 section 3."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from l2e_min.lab.choice.evaluate import evaluate, hard_and_easy
from l2e_min.lab.choice.tasks import choice_tasks
from l2e_min.lab.mini_pythia import load_model
from l2e_min.lab.pretraining_study.plan import (
    EARLY,
    LONG,
    MAIN,
    SEARCH_SEED,
    Rows,
    Run,
    best_rate,
    compare,
    find,
    keeps_early,
    lead,
    long,
    places,
    scales,
)
from l2e_min.lab.training.methods import load_run

SHOTS = {"zero": 0, "five": 5}
"""Solved examples before a question; of five, as many as the context of 128 tokens has room for."""

ITEMS = 320
"""Questions of a task."""

FEATURES, ROWS_PER_FEATURE = "code_language", 200
"""The dataset on which probing F1 and K-S are measured: the one on which W25 finds the most neurons."""


def scored(rows: Rows) -> list[Run]:
    """The runs that answer questions: the long ones, the places, the scales, and the one that says what is hard."""
    return [splitter(rows), *long(rows), *places(rows), *scales(rows), *lead(rows)]


def splitter(rows: Rows) -> Run:
    """The plain model of another seed whose scores part hard tasks from easy ones (C18)."""
    return Run("plain", best_rate(rows, "plain"), SEARCH_SEED)


def observed(rows: Rows) -> list[Run]:
    """The runs whose neurons are probed, after ``EARLY`` steps and at the end."""
    return compare(rows, treatments=MAIN)


@cache
def tasks(shots: int) -> tuple:
    return tuple(choice_tasks(items=ITEMS, shots=shots))


def answer(run: Run, out: Path) -> dict:
    """Accuracy by task: ``zero`` without solved examples, ``five`` with them (long runs only, as C18 compares them)."""
    model, tokenizer = load_run(out / run.folder)
    row = {"run": run.key}
    for name, shots in SHOTS.items():
        if shots and run.steps != LONG:
            continue
        scores = evaluate(model, tokenizer, tasks(shots))
        row[name] = {task: score.accuracy for task, score in scores.items()}
    return row


@cache
def texts():
    from l2e_min.lab.study.model import held_out_rows
    from l2e_min.lab.text.features import load_features

    return load_features(FEATURES, ROWS_PER_FEATURE), held_out_rows()


def observe(run: Run, out: Path) -> dict:
    """Probing F1, K-S and phi on l*: of the ``early`` weights, where they were kept, and at the ``end``."""
    folder = out / run.folder
    row = {"run": run.key, "dataset": FEATURES, "end": numbers(*load_run(folder))}
    if keeps_early(run):
        early = load_model(folder / "snapshots", variant=f"step{EARLY}", tokenizer=folder / "tokenizer")
        row["early"] = numbers(*early)
    return row


def numbers(model, tokenizer) -> dict[str, float]:
    """What ``lab.study.measures`` says of all neurons of a model, in part."""
    from l2e_min.lab.study.model import study_model

    data, held_out = texts()
    found = study_model(model, tokenizer, [data], held_out, off=False, progress=False)["datasets"][data.name]
    return {name: found[name] for name in ("f1", "f1_null", "ks", "ks_null", "phi_on", "phi_on_null", "dead")}


def hard_tasks(answers: Sequence[dict], rows: Rows) -> tuple[list[str], list[str]]:
    """(hard, easy) tasks, by the splitter's scores without examples."""
    return hard_and_easy(find(answers, splitter(rows))["zero"])
