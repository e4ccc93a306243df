"""What simple methods score on a task: the height from which a model's scores are to be read, and a test for leaks.

    python -m l2e_min.lab.finetuning.baselines --out data/results/mini_glue_baselines.json

records them for the mini GLUE (some minutes; tasks that are done are kept, so it can be stopped and goes on where it
was). Everything is fitted on train, chosen on dev, and scored once on test.
"""

import argparse
import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.simple_models import bag_of_words, overlap
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.paths import BUILD, DATA
from l2e_min.lab.record import rounded

RECORD = DATA / "results" / "mini_glue_baselines.json"

SIDES = ("first_only", "second_only")
MARGIN = 2.5
"""Points above chance from which on a side that should tell nothing is called a leak (if its interval agrees)."""

BOOTSTRAP = 1000


def baselines(task: Task, seed: int = 0) -> dict[str, float]:
    """Points on the task's test rows, by baseline.

    "majority": the constant that is best on dev. "bag_of_words": TF-IDF of words or letters (of pairs: of A, of B, and
    their product) and a logistic regression, or ridge regression. "first_only", "second_only": the same on one side of
    a pair. "overlap": what a pair shares (`PairFeatures`), by a logistic regression or boosted trees; pairs only.
    """
    return {name: task.score(p, task.test.labels) for name, (p, _) in predictions(task, seed).items()}


def predictions(task: Task, seed: int = 0) -> dict[str, tuple[np.ndarray, str]]:
    """By baseline: its predictions on the test rows (n,), and the setting that dev chose."""
    values = np.unique(task.train.labels) if task.kind == "classification" else [np.mean(task.train.labels)]
    full = lambda value, rows: np.full(len(rows), value)  # noqa: E731
    constant = max(values, key=lambda value: task.score(full(value, task.dev), task.dev.labels))
    found = {"majority": (full(constant, task.test), str(constant))}
    found["bag_of_words"] = bag_of_words(task, ("first", "second") if task.pair else ("first",))
    if task.pair:
        found["first_only"] = bag_of_words(task, ("first",))
        found["second_only"] = bag_of_words(task, ("second",))
        found["overlap"] = overlap(task, seed)
    return found


def interval(task: Task, predicted: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Central 95 % of the test score over resampled *files*: rows of one file are not independent."""
    rng = np.random.default_rng(seed)
    names, file = np.unique(np.array(task.test.sources), return_inverse=True)
    rows = [np.flatnonzero(file == k) for k in range(len(names))]
    draws = []
    for _ in range(BOOTSTRAP):
        index = np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])
        draws.append(task.score(predicted[index], task.test.labels[index]))
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def chance(task: Task) -> float:
    """Points of guessing without reading, classes drawn by their shares: what one side of a fair pair task scores."""
    if task.metric in ("matthews", "spearman"):
        return 0.0
    shares = np.bincount(task.test.labels, minlength=task.n_classes) / len(task.test)
    return 100.0 * float(shares[1] if task.metric == "f1" else shares @ shares)


def leaks(task: Task, scores: dict[str, float], intervals: dict[str, tuple[float, float]]) -> list[str]:
    """The sides of a pair task that tell the label by themselves: beyond chance by `MARGIN`, interval and all."""
    level = chance(task)
    return [s for s in SIDES if s in scores and scores[s] > level + MARGIN and intervals[s][0] > level]


def measured(task: Task, seed: int = 0) -> dict[str, object]:
    """Everything the record holds of a task: scores, intervals over files, choices, chance, leaks."""
    found = predictions(task, seed)
    scores = {name: task.score(p, task.test.labels) for name, (p, _) in found.items()}
    intervals = {name: interval(task, p, seed) for name, (p, _) in found.items()}
    return {"metric": task.metric, "rows": [len(task.train), len(task.dev), len(task.test)], "chance": chance(task),
            "scores": scores, "intervals": intervals, "chosen": {name: choice for name, (_, choice) in found.items()},
            "leaks": leaks(task, scores, intervals)}  # fmt: skip


def record(tasks: Sequence[Task], out: Path = RECORD, seed: int = 0) -> dict[str, object]:
    """Measures the tasks that are not kept yet and writes the record; returns it."""
    from tqdm.auto import tqdm

    found = {}
    for task in tqdm(tasks, desc="baselines", unit="task"):
        stamp = _stamp(task, seed)
        kept = BUILD / "mini_glue_baselines" / f"{task.name}-{stamp}.json"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(rounded(measured(task, seed))), encoding="utf-8")
        found[task.name] = json.loads(kept.read_text(encoding="utf-8"))
    about = {"seed": seed, "bootstrap": BOOTSTRAP, "margin": MARGIN, "versions": _versions()}
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(result)}" for name, result in found.items())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{{\n{head},\n "tasks": {{\n{lines}\n }}\n}}\n', encoding="utf-8")
    return about | {"tasks": found}


def _stamp(task: Task, seed: int) -> str:
    """Names the rows and the code that a result stands on."""
    digest = hashlib.sha256(f"{seed}{task.metric}{Path(__file__).read_text(encoding='utf-8')}".encode())
    for name in ("simple_models.py", "pair_features.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    for rows in (task.train, task.dev, task.test):
        digest.update(json.dumps([rows.first, rows.second, rows.labels.tolist(), rows.sources]).encode())
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    import scipy
    import sklearn

    packages = {module.__name__: module.__version__ for module in (np, scipy, sklearn)}
    return {"python": platform.python_version(), **packages}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    from l2e_min.lab.finetuning.mini_glue import MINI_GLUE, mini_glue

    parser = argparse.ArgumentParser(prog="python -m l2e_min.lab.finetuning.baselines", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, default=RECORD, help=f"the record (default: {RECORD.name})")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help=f"of {', '.join(MINI_GLUE)} (default: all)")
    parser.add_argument("--train-rows", type=int, default=3000, metavar="N",
                        help="first training rows of a task (default: 3000, as in chapter 6)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of boosted trees and bootstrap (default: 0)")
    chosen = parser.parse_args(arguments)
    try:
        tasks = [task.with_train_rows(chosen.train_rows) for task in mini_glue(chosen.tasks)]
        result = record(tasks, chosen.out, chosen.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, task in result["tasks"].items():
        scores = "  ".join(f"{key} {value:.1f}" for key, value in task["scores"].items())
        print(f"{name} ({task['metric']}, chance {task['chance']:.1f}): {scores}"
              + (f"  LEAKS: {', '.join(task['leaks'])}" if task["leaks"] else ""))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
