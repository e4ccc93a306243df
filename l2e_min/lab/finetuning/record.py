"""What chapter 6 stands on under each profile: the model, the tasks, the comparison and its recorded runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from l2e_min.lab.finetuning.compare import compare, read_rows
from l2e_min.lab.finetuning.protocol import Protocol, find
from l2e_min.lab.finetuning.run import FineTuneSettings
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.finetuning.tasks import load_tasks
from l2e_min.lab.mini_bert import shipped_bert
from l2e_min.lab.paths import BUILD, DATA
from l2e_min.lab.settings import Settings

RESULTS = DATA / "results"

TRAIN_ROWS = 3000
"""Training rows of a mini task: as few as RTE or MRPC have, where W24's gains are largest."""

W24_RATES = (5e-5, 4e-5, 3e-5, 2e-5)
"""Learning rates of W24's search."""


@dataclass(frozen=True)
class Study:
    """A comparison and where it stands."""

    settings: Settings
    model: str
    """Folder or hub:NAME."""
    title: str
    """The model in words."""
    protocol: Protocol
    folder: Path
    """Where its runs are."""
    cost: str
    """What the chapter costs."""

    def tasks(self) -> list[Task]:
        """The tasks of the comparison, mini tasks with their first ``TRAIN_ROWS`` training rows."""
        found = load_tasks(self.settings.tasks)
        if self.settings.encoder != "mini":
            return found
        return [task.with_train_rows(TRAIN_ROWS) for task in found]

    def rows(self) -> list[dict]:
        """The runs: recorded ones for the mini BERT; for another model those that are missing are made, for hours."""
        if self.settings.encoder == "mini":
            return [row for row in read_rows(self.folder) if row["task"] in self.settings.tasks]
        return compare(self.tasks(), self.model, self.protocol, self.folder)

    def baselines(self) -> dict[str, dict[str, float]]:
        """{task: {baseline: points}}, recorded; empty where the tasks are others."""
        path = RESULTS / "mini_glue_baselines.json"
        if self.settings.encoder != "mini" or not path.is_file():
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        return {name: task["scores"] for name, task in found.items()}

    def has(self, rows: Sequence[dict], task: Task, control: str) -> bool:
        """Whether a control's runs on a task are all among ``rows``."""
        mine = [row for row in rows if row["task"] == task.name]
        runs = replace(self.protocol, extra=(control,)).reported(mine)[control]
        return all(find(mine, run) is not None for run in runs)


def study(settings: Settings) -> Study:
    """The comparison of a profile."""
    if settings.encoder == "mini":
        base = FineTuneSettings(precision="bf16")
        return Study(
            settings,
            str(shipped_bert()),
            "the mini BERT that ships, on tasks cut from installed text",
            Protocol(extra=("random",), base=base),
            RESULTS / "finetuning",
            "about two minutes on 2 cores for two live runs; the other runs stand on record",
        )
    base = FineTuneSettings(head="cls", precision="bf16", device=settings.device, learning_rate=W24_RATES[0])
    return Study(
        settings,
        settings.encoder,
        f"{settings.encoder} on {len(settings.tasks)} tasks of GLUE",
        Protocol(rates=W24_RATES, extra=("random",), base=base),
        BUILD / f"finetuning-{settings.profile}",
        "about 60 runs a task, their time not measured yet; stopped, it goes on where it was",
    )
