"""W24 Table 4 while a model is fine-tuned: decrease and total update ratios of the selected pairs, method by method.

    python -m l2e_min.lab.finetuning.decrease --task accept --seeds 5 --out data/results/finetuning_decrease.json

makes the record; it is written after every run, and what is there is not made again. How a run is looked at:
``watch.py``.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.methods import Method
from l2e_min.lab.finetuning.run import FineTuneSettings, fine_tune
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.finetuning.watch import EVERY, PICKS, Pairs, Watch
from l2e_min.lab.ledger.measurement import Measurement
from l2e_min.lab.paths import DATA
from l2e_min.lab.record import rounded

METHODS = ("plain", "freeze", "straight_through", "memel")
"""The rows of W24 Table 4: original, naive (a), naive (b), RD on one pair a row."""

RATE = 5e-4
"""The rate that suits a mini BERT; W24 updates Swin-B with 2e-6."""

RECORD = DATA / "results" / "finetuning_decrease.json"


def watched_run(task: Task, model: str, settings: FineTuneSettings, *, every: int = EVERY, progress: bool = False):
    """(pairs, run) of one fine-tuning run, whose numbers are those of ``fine_tune`` alone."""
    watch = Watch(settings, every)
    run = fine_tune(task, model, settings, before_step=watch.before, after_step=watch.after, progress=progress)
    return watch.pairs(), run


def summary(pairs: Pairs) -> dict:
    """Plain JSON of a run, by way of picking (``watch.PICKS``) and by layer ("1", ..., and "all"); see ``numbers``."""
    layers = {str(layer): pairs.layer == layer for layer in np.unique(pairs.layer)} | {"all": pairs.step > 0}
    return {
        picked: {layer: numbers(pairs.take(chosen & (pairs.picked == picked))) for layer, chosen in layers.items()}
        for picked in PICKS
    }


def numbers(pairs: Pairs) -> dict:
    """Medians and means over pairs in percent; shares of pairs above 0; medians by step. "moved": the total update
    ratio; "difference": the decrease ratio minus its control's, pair by pair."""
    columns = {"decrease": pairs.decrease(), "control": pairs.decrease("control"), "difference": pairs.difference(),
               "moved": pairs.moved(), "moved_control": pairs.moved("control")}  # fmt: skip
    steps = np.unique(pairs.step)
    found = {"pairs": len(pairs.step), "phi": float(np.median(pairs.phi)), "both": float(pairs.both.mean()),
             "steps": steps.tolist()}  # fmt: skip
    for name, values in columns.items():
        found[name] = {"median": float(np.median(values)), "mean": float(values.mean()),
                       "above_0": float(np.mean(values > 0)),
                       "by_step": [float(np.median(values[pairs.step == s])) for s in steps]}  # fmt: skip
    return found


def over_seeds(
    rows: Sequence[dict],
    method: str,
    what: str = "decrease",
    number: str = "median",
    *,
    layer: str = "all",
    picked: str = "off",
) -> Measurement:
    """One of a record's numbers with its 95 % interval over seeds, such as over_seeds(rows, "memel", "difference").

    ``number``: "median" or "mean" in percent (a difference in percentage points), or "above_0", a share of pairs.
    """
    found = [row[picked][layer] for row in rows if row["method"] == method]
    if len(found) < 2:
        raise UserError(f"{len(found)} run(s) of {method!r} are there; an interval over seeds needs at least two")
    unit = None if number == "above_0" else "percent"
    return Measurement.over_seeds([one[what][number] for one in found], unit=unit, n=found[0]["pairs"])


def make(
    task: Task,
    model: str,
    out: Path = RECORD,
    *,
    methods=METHODS,
    seeds=range(5),
    rate: float = RATE,
    every: int = EVERY,
    progress: bool = True,
) -> dict:
    """Makes the runs that ``out`` lacks and returns the record. UserError: it holds runs that were made otherwise."""
    from l2e_min.lab.finetuning.compare import fingerprint
    from l2e_min.lab.training.run_folder import versions

    about = rounded(
        {
            "task": task.name,
            "train_rows": len(task.train),
            "texts": fingerprint(task),
            "model": model if model.startswith("hub:") else Path(model).name,
            "learning_rate": rate,
            "every": every,
        }
    )
    record = {**about, "versions": versions(), "rows": []}
    if out.is_file():
        record = read(out)
        for name, value in about.items():
            if record.get(name) != value:
                raise UserError(f"{out} was made with {name} {record.get(name)!r}, not {value!r}; choose another file")
    made = {(row["method"], row["seed"]) for row in record["rows"]}
    todo = [(method, seed) for seed in seeds for method in methods if (method, seed) not in made]
    for number, (method, seed) in enumerate(todo, 1):
        if progress:
            print(f"{number}/{len(todo)}: {task.name} {method} seed {seed}", flush=True)
        settings = FineTuneSettings(Method(method), learning_rate=rate, seed=seed)
        pairs, run = watched_run(task, model, settings, every=every, progress=progress)
        row = {"method": method, "seed": seed, **run.scores, **summary(pairs)}
        record["rows"].append(rounded(row))
        write(record, out)
    return record


def write(record: dict, out: Path) -> None:
    """A line a run, in one move. UserError where the folder will not have it."""
    head = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in record.items() if name != "rows")
    rows = ",\n".join(f"  {json.dumps(row)}" for row in record["rows"])
    part = out.with_suffix(".tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(f'{{\n{head},\n "rows": [\n{rows}\n ]\n}}\n', encoding="utf-8")
        os.replace(part, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another file") from error


def read(path: Path = RECORD) -> dict:
    """The record. UserError where it is not there or not whole."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["rows"][0]["off"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        command = "python -m l2e_min.lab.finetuning.decrease"
        raise UserError(f"no record of decrease ratios in {path.name} ({error}); {command} makes it") from error
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """The command of the module's first lines."""
    from l2e_min.lab.finetuning.tasks import load_tasks
    from l2e_min.lab.mini_bert import shipped_bert

    parser = argparse.ArgumentParser(
        prog="python -m l2e_min.lab.finetuning.decrease",
        description="W24 Table 4 while fine-tuning: what every 25th step does to the selected pairs",
    )
    add = parser.add_argument
    add("--model", metavar="MODEL", default=str(shipped_bert()), help="folder or hub:NAME (default: what ships)")
    add("--task", default="accept", metavar="NAME", help="a task of l2e finetune (default: accept)")
    add("--train-rows", type=int, metavar="N", help="take the first N training rows (default: all)")
    add("--seeds", type=int, default=5, metavar="N", help="seeds of each method (default: 5)")
    add("--rate", type=float, default=RATE, metavar="X", help=f"learning rate (default: {RATE:g})")
    add("--every", type=int, default=EVERY, metavar="N", help=f"steps between two looks (default: {EVERY})")
    add("--out", type=Path, default=RECORD, metavar="FILE")
    a = parser.parse_args(arguments)
    try:
        if a.seeds < 1 or (a.train_rows is not None and a.train_rows < 2):
            raise UserError("--seeds takes a number of at least 1, --train-rows of at least 2")
        (task,) = load_tasks([a.task])
        task = task if a.train_rows is None else task.with_train_rows(a.train_rows)
        record = make(task, a.model, a.out, seeds=range(a.seeds), rate=a.rate, every=a.every)
        if a.seeds > 1:
            print(as_text(record["rows"]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def as_text(rows: Sequence[dict]) -> str:
    """Medians over pairs, then means and 95 % intervals over seeds, a line a method and way of picking."""
    what = {"decrease": "decrease ratio", "control": "of the plain step", "difference": "difference",
            "moved": "total update ratio"}  # fmt: skip
    lines = [f"{'percent':26}" + "".join(f"{title:>27}" for title in what.values())]
    for picked in PICKS:
        for method in dict.fromkeys(row["method"] for row in rows):
            found = [over_seeds(rows, method, name, picked=picked) for name in what]
            cells = "".join(f"{f'{m.value:.4f} [{m.low:.4f}, {m.high:.4f}]':>27}" for m in found)
            lines.append(f"{picked + ', ' + method:26}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
