"""One run of the comparison: trains it in its folder, measures the model, and gives a row of numbers."""

import csv
import functools
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

from l2e_min.lab.pretraining_study.cumulative import Cumulative
from l2e_min.lab.pretraining_study.plan import EARLY, STEPS, Run, keeps_early
from l2e_min.lab.training.look import look, mean_cost
from l2e_min.lab.training.methods import attach_method, chosen_sites, load_run
from l2e_min.lab.training.pretrain import pretrain
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.suite import share_tokenizer
from l2e_min.lab.training.training_text import prepare_text

LOOK_ROWS = 64
"""Held-out rows of 128 tokens that the neurons are judged on."""

CURVE = ("step", "loss", "validation_loss", "top_ms", "median_variance", "threshold", "share_selected")
"""Columns of the log that are kept."""


@functools.cache
def corpus():
    """The installed text, read once a process."""
    from l2e_min.lab.text.corpus import load_corpus

    return load_corpus("installed")


def make(run: Run, out: Path, *, progress: bool = False) -> dict:
    """The run's row; goes on where it was stopped. Raises ``Interrupted`` after Ctrl-C, and ``UserError``."""
    folder = out / run.folder
    start = replace(run, treatment="plain", rate=run.start, steps=STEPS, start=0.0)
    settings = run.settings(str(out / start.folder / "model") if run.start else "")
    cumulative = folder / "cumulative.safetensors"

    def attach(model):
        watcher = Cumulative(chosen_sites(model, run.layers), cumulative)
        penalty, extras = attach_method(settings)(model)
        return penalty, {**extras, "cumulative": watcher}

    began = time.process_time()
    share_tokenizer(out, folder, settings, corpus())
    snapshots = (EARLY,) if keeps_early(run) else ()
    result = pretrain(settings, folder, snapshots=snapshots, attach=attach, corpus=corpus(), progress=progress)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # 13 MB a run, and never needed again
    row = {"run": run.key, "validation_loss": result["validation_loss"]}
    row["cpu_seconds"] = round(time.process_time() - began, 1)
    row |= {
        "precision": settings.precision,
        "text": result["text"]["fingerprint"][:16],
        **measured(run, folder, cumulative, settings),
    }
    return row | {"curve": curve(folder / "training_log.csv")}


def measured(run: Run, folder: Path, cumulative: Path, settings: PretrainSettings) -> dict:
    """The looks at the finished model, and at the early one where there is one."""
    model, _ = load_run(folder)
    sites = chosen_sites(model, run.layers)
    held_out = held_out_rows(folder, settings)
    with torch.no_grad():
        found = look(model, held_out, settings, sites, Cumulative.read(sites, cumulative))
        rows = {"look": found, "mean_cost": mean_cost(model, held_out, settings, sites)}
        if keeps_early(run):
            from l2e_min.lab.mini_pythia import load_model

            early, _ = load_model(folder / "snapshots", variant=f"step{EARLY}", tokenizer=folder / "tokenizer")
            rows["early_look"] = look(early, held_out, settings, chosen_sites(early, run.layers))
    return rows


_held_out: dict[str, tuple] = {}


def held_out_rows(folder: Path, settings: PretrainSettings) -> tuple:
    """Inputs and targets of ``LOOK_ROWS`` held-out rows: the same for all runs, prepared once a process."""
    if "rows" not in _held_out:
        text = prepare_text(settings, folder, corpus=corpus(), progress=False)
        _held_out["rows"] = text.validation.rows(text.validation.spread(LOOK_ROWS))
    return _held_out["rows"]


def curve(log: Path) -> dict[str, list]:
    """Columns of the log, a number or None a line."""
    with open(log, encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    columns = {name: [float(line[name]) if line[name] else None for line in lines] for name in CURVE}
    return {name: values for name, values in columns.items() if any(v is not None for v in values)}
