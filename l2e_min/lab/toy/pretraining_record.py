"""Chapter 5's pretraining runs: made once, kept in ``data/results/toy_pretraining.json``, read by the chapter.

    python -m l2e_min.lab.toy.pretraining_record

makes them again (some 15 minutes on one core). Finished runs are kept below ``_build/toy_pretraining`` at once, so it
can be stopped and goes on where it was; delete that folder to start afresh.
"""

import json
import sys
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.paths import BUILD, DATA
from l2e_min.lab.record import rounded
from l2e_min.lab.toy.pretraining import KINDS, train
from l2e_min.lab.training.recipe import PretrainSettings
from l2e_min.lab.training.run_folder import versions
from l2e_min.lab.training.training_text import prepare_text

RECORD = DATA / "results" / "toy_pretraining.json"
SEEDS = (0, 1, 2)
LOOKS = (0, 10, 20, 40, 80, 120, 160, 200, 250, 300)
# float32, because bfloat16 has too few bits for the tiny variances that are to be seen. One order of text for all.
SETTINGS = {"size": "64x3", "steps": 300, "precision": "fp32", "device": "cpu", "data_seed": 0}


def make(out: Path = RECORD, *, kinds=tuple(KINDS), seeds=SEEDS, settings: dict = SETTINGS, looks=LOOKS, corpus=None):
    """Makes the runs that are not there yet and writes the record; returns it."""
    from tqdm.auto import tqdm

    folder = BUILD / "toy_pretraining"
    tokenizer = str(DATA / "models" / "suite" / "tokenizer")
    chosen = PretrainSettings(**settings, tokenizer=tokenizer)
    text = prepare_text(chosen, folder, corpus=corpus)
    about = {
        "settings": chosen.as_dict() | {"tokenizer": "data/models/suite/tokenizer"},
        "text": text.summary,
        "look_at": list(looks),
        "versions": versions(),
    }
    runs = {}
    for name, seed in tqdm([(name, seed) for seed in seeds for name in kinds], desc="runs", unit="run"):
        kept = folder / f"{name}-{seed}.json"
        stamp = {"settings": about["settings"], "text": text.summary["fingerprint"], "look_at": about["look_at"]}
        if kept.is_file() and (found := json.loads(kept.read_text()))["stamp"] == stamp:
            runs[f"{name}/{seed}"] = found["run"]
            continue
        run = rounded(train(name, seed, text, chosen, tuple(looks)))
        kept.write_text(json.dumps({"stamp": stamp, "run": run}))
        runs[f"{name}/{seed}"] = run
    record = about | {"runs": runs}
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(run)}" for key, run in runs.items())
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    out.write_text(f'{{\n{head},\n "runs": {{\n{lines}\n }}\n}}\n', encoding="utf-8")
    return record


def read(path: Path = RECORD) -> dict:
    """The record. ``UserError`` where it is not there or not whole."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not record["runs"]:
            raise ValueError("it holds no runs")
    except (OSError, ValueError, KeyError) as error:
        command = "python -m l2e_min.lab.toy.pretraining_record"
        raise UserError(f"no pretraining record in {path.name} ({error}); {command} makes it") from error
    return record


if __name__ == "__main__":
    make()
    sys.exit(0)
