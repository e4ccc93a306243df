"""What the shipped suite scores, with and without examples: a record that the tests and the pages read.

    python -m l2e_min.lab.choice.record --out data/results/choice_suite.json

Goes on where it was stopped: models that are in the file already are left out.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from l2e_min.lab.choice.evaluate import TaskScore, evaluate, hard_and_easy
from l2e_min.lab.choice.item import CHANCE, ChoiceTask
from l2e_min.lab.choice.tasks import choice_tasks
from l2e_min.lab.errors import UserError
from l2e_min.lab.mini_pythia import load_suite, parameter_counts
from l2e_min.lab.record import rounded
from l2e_min.lab.training.run_folder import versions

SUITE = {"32x2": (0, 1, 2), "64x3": (0, 1, 2), "128x4": (0, 1), "192x5": (0,), "256x6": (0,)}
"""Scales and seeds that ship."""

SHOTS = (0, 5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is missing, writes after every model, prints the table. Exit status 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m l2e_min.lab.choice.record", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write or to go on with")
    parser.add_argument("--items", type=int, default=320, help="questions of a task (default: 320)")
    given = parser.parse_args(arguments)
    try:
        print(table(record(given.out, given.items)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def record(out: Path, items: int = 320, suite: dict[str, tuple[int, ...]] = SUITE, say=print) -> dict:
    """The content of `out`, complete. Raises UserError where `out` holds other questions, or cannot be written."""
    tasks = {shots: choice_tasks(items=items, shots=shots) for shots in SHOTS}
    content = {"chance": CHANCE, "items": items, "questions": _fingerprint(tasks), "versions": versions(), "rows": []}
    if out.is_file():
        content = _hold_to(out, content)
    for scale, seeds in suite.items():
        for seed in seeds:
            for shots in SHOTS:
                if any((r["scale"], r["seed"], r["shots"]) == (scale, seed, shots) for r in content["rows"]):
                    continue
                model, tokenizer = load_suite(scale, seed)
                scores = evaluate(model, tokenizer, tasks[shots])
                row = {"scale": scale, "seed": seed, "shots": shots, "parameters": parameter_counts(model)[0]}
                content["rows"].append(row | {"tasks": {name: as_row(score) for name, score in scores.items()}})
                content["summary"] = summary(content["rows"])
                _write(out, content)
                say(f"{scale} seed {seed}, {shots} shots: " + "  ".join(f"{s.accuracy:.3f}" for s in scores.values()))
    return content


def as_row(score: TaskScore) -> dict:
    """A score as plain JSON, without its items."""
    return {name: getattr(score, name) for name in ("accuracy", "low", "high", "n", "alone", "examples")}


def summary(rows: Sequence[dict]) -> list[dict]:
    """For shots and task: the mean accuracy of each scale, is every model above chance, does accuracy rise with scale?

    `above_chance`: models whose interval lies above .25, of `models`. `slope`: points of accuracy for ten times the
    parameters, least squares over the models; `slope_low`, `slope_high`: its 95 % interval. `rising`: it lies above 0.
    `hard`: whether the task is among the harder half for the 128x4 of seed 1 ("a plain model of another seed").
    """
    import numpy as np
    from scipy.stats import linregress, t

    found = []
    for shots in dict.fromkeys(row["shots"] for row in rows):
        these = [row for row in rows if row["shots"] == shots]
        plain = next((r for r in these if (r["scale"], r["seed"]) == ("128x4", 1)), None)
        hard = hard_and_easy({n: s["accuracy"] for n, s in plain["tasks"].items()})[0] if plain else None
        for task in these[0]["tasks"]:
            by_scale = {}
            for row in these:
                by_scale.setdefault(row["scale"], []).append(row["tasks"][task]["accuracy"])
            entry = {"shots": shots, "task": task, "models": len(these)}
            entry["by_scale"] = {scale: float(np.mean(values)) for scale, values in by_scale.items()}
            entry["above_chance"] = sum(bool(row["tasks"][task]["low"] > CHANCE) for row in these)
            entry["hard"] = task in hard if hard else None
            if len(by_scale) > 2:
                x = [np.log10(row["parameters"]) for row in these]
                line = linregress(x, [100 * row["tasks"][task]["accuracy"] for row in these])
                half = t.ppf(0.975, len(these) - 2) * line.stderr
                entry |= {"slope": line.slope, "slope_low": line.slope - half, "slope_high": line.slope + half}
                entry["rising"] = bool(line.slope - half > 0)
            found.append({k: float(v) if isinstance(v, np.floating) else v for k, v in entry.items()})
    return found


def table(content: dict) -> str:
    """The summary as lines of text."""
    scales = list(dict.fromkeys(row["scale"] for row in content["rows"]))
    lines = [f"{'shots':>5}  {'task':16}" + "".join(f"{s:>8}" for s in scales) + "  above chance  points a tenfold"]
    for entry in content["summary"]:
        cells = "".join(f"{entry['by_scale'].get(s, float('nan')):8.3f}" for s in scales)
        lines.append(f"{entry['shots']:>5}  {entry['task']:16}{cells}  {entry['above_chance']:>5} of {entry['models']}")
        if "slope" in entry:
            lines[-1] += f"      {entry['slope']:.1f} [{entry['slope_low']:.1f}, {entry['slope_high']:.1f}]"
    return "\n".join(lines)


def _fingerprint(tasks: dict[int, list[ChoiceTask]]) -> str:
    """Names the questions: they change with the installed packages."""
    return hashlib.sha256(repr(tasks).encode()).hexdigest()[:16]


def _hold_to(out: Path, content: dict) -> dict:
    try:
        there = json.loads(out.read_text(encoding="utf-8"))
        same = all(there[name] == content[name] for name in ("items", "questions")) and isinstance(there["rows"], list)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out} is not a record of the choice tasks; choose another file") from error
    if not same:
        raise UserError(f"{out} was measured on other questions (packages or code have changed); choose another file")
    return there


def _write(out: Path, content: dict) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".tmp")
        part.write_text(json.dumps(rounded(content), indent=1) + "\n", encoding="utf-8")
        os.replace(part, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; choose another file") from error


if __name__ == "__main__":
    sys.exit(main())
