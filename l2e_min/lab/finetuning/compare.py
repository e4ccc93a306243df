"""Makes the runs of a comparison, one after another or spread over processes, and keeps each as it is finished.

Every process writes its own ``runs*.jsonl`` in the folder and reads all of them; what is there is not made again.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.protocol import Protocol, find, unique
from l2e_min.lab.finetuning.run import FineTuneSettings, fine_tune
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.record import Record, read


def compare(tasks: Sequence[Task], model: str, protocol: Protocol, out: Path, *, progress: bool = True) -> list[dict]:
    """All rows of the comparison; see ``row_of``. Goes on with what is in ``out``.

    ``model`` is a folder or hub:NAME. Under ``accelerate launch`` the processes share the runs. UserError: a model or
    folder that will not do, records of other tasks, another model or other settings.
    """
    from accelerate import PartialState

    process = PartialState(cpu=protocol.base.device == "cpu")  # else no other process is seen on CPUs
    name = "runs.jsonl" if process.process_index == 0 else f"runs-{process.process_index}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    record, weights = Record(out / name, header_of(model, protocol)), weights_of(model)
    texts = {task.name: fingerprint(task) for task in tasks}
    for step in ("first", "reported"):
        process.wait_for_everyone()
        rows = read_rows(out)
        hold_to_texts(rows, texts)
        if any(row.get("weights", weights) != weights for row in rows):  # rows from before this entry have none
            raise UserError(f"the runs in {out} are of another model under the name {model}; choose another folder")
        todo = [(task, s) for task, s in runs_of(tasks, protocol, step, rows) if not made(rows, task, s)]
        process.wait_for_everyone()  # until all have read: a run that is finished by then would change who makes which
        for number, (task, settings) in enumerate(todo):
            if number % process.num_processes != process.process_index:
                continue
            if progress:
                method = settings.method
                print(f"{step} {number + 1}/{len(todo)}: {task.name} {method.name} k={method.k} D={method.strength:g} "
                      f"{method.reading} rate {settings.learning_rate:g} seed {settings.seed}", flush=True)  # fmt: skip
            row = row_of(task, settings, fine_tune(task, model, settings, progress=progress))
            record.add({**row, "texts": texts[task.name], "weights": weights})
    process.wait_for_everyone()
    return read_rows(out)


def runs_of(
    tasks: Sequence[Task], protocol: Protocol, step: str, rows: Sequence[dict]
) -> Iterator[tuple[Task, FineTuneSettings]]:
    """The runs of a step, "first" or "reported", for every task."""
    for task in tasks:
        mine = [row for row in rows if row["task"] == task.name]
        if step == "first":
            runs = protocol.first_runs()
        else:
            runs = unique([run for group in protocol.reported(mine).values() for run in group])
        for settings in runs:
            yield task, settings


def made(rows: Sequence[dict], task: Task, settings: FineTuneSettings) -> bool:
    """Whether a run is among the rows."""
    return find([row for row in rows if row["task"] == task.name], settings) is not None


def hold_to_texts(rows: Sequence[dict], texts: dict[str, str]) -> None:
    """UserError: there are rows of a task with other texts than ``texts``, its fingerprint by name."""
    for row in rows:
        if row["texts"] != texts.get(row["task"], row["texts"]):
            raise UserError(
                f"the texts of {row['task']} are not those that the runs there were made with; choose another folder"
            )


def row_of(task: Task, settings: FineTuneSettings, run) -> dict:
    """What is kept of a run: its key, scores in points, its curve, and by layer the share of pairs inhibited last."""
    layers = {}
    if run.inhibitor is not None:
        layers = {name: state.share.item() for name, state in run.inhibitor.states.items()}
    return {"task": task.name, **settings.key(), **run.scores, "curve": run.curve, "share_by_layer": layers,
            "rows": [len(task.train), len(task.dev), len(task.test)]}  # fmt: skip


def header_of(model: str, protocol: Protocol) -> dict:
    """How the rows are made: what must be equal for a comparison to go on."""
    from l2e_min.lab.training.run_folder import versions

    base = {name: getattr(protocol.base, name) for name in
            ("epochs", "batch", "warmup_share", "weight_decay", "clip", "head", "precision")}  # fmt: skip
    return {
        "model": Path(model).name if not model.startswith("hub:") else model,
        "settings": base,
        "versions": versions(),
    }


def weights_of(model: str) -> str:
    """Tells models in folders of the same name apart: a hash of the weights; "" for the hub, whose names are unique."""
    digest = hashlib.sha256()
    files = [] if model.startswith("hub:") else sorted(Path(model).glob("*.safetensors"))
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16] if files else ""


def fingerprint(task: Task) -> str:
    """Tells a task's rows from others: a hash of texts and labels."""
    digest = hashlib.sha256()
    for rows in (task.train, task.dev, task.test):
        for column in (rows.first, rows.second or ()):
            digest.update("\0".join(column).encode("utf-8", "replace"))
        digest.update(np.asarray(rows.labels, np.float64).tobytes())
    return digest.hexdigest()[:16]


def read_rows(out: Path) -> list[dict]:
    """The rows of every process in a comparison's folder."""
    files = sorted(out.glob("runs*.jsonl"))
    if not files:
        raise UserError(f"no runs.jsonl in {out}; make it with: l2e finetune --out {out}")
    return [row for file in files for row in read(file)[1]]
