"""Tasks by name: the book's own, GLUE's, or a folder of TSV files."""

from collections.abc import Sequence
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.glue import GLUE, glue_task
from l2e_min.lab.finetuning.mini_glue import MINI_GLUE, mini_task
from l2e_min.lab.finetuning.task import Task
from l2e_min.lab.finetuning.tsv import folder_task

SMALL = ["rte", "mrpc", "stsb", "cola"]
"""GLUE's tasks with few training rows: a run takes minutes on one GPU."""


def load_tasks(names: Sequence[str], folders: Sequence[Path] = ()) -> list[Task]:
    """The tasks named, then those in folders. UserError: a name that is none, or given twice."""
    groups = {"mini": list(MINI_GLUE), "glue": list(GLUE), "glue-small": SMALL}
    wanted = [name for given in names for name in groups.get(given, [given])]
    for name in wanted:
        if name not in MINI_GLUE and name not in GLUE:
            raise UserError(
                f"no task {name!r}; expected some of {', '.join((*MINI_GLUE, *GLUE, *groups))}, or --task-dir"
            )
    tasks = [mini_task(name) if name in MINI_GLUE else glue_task(name) for name in dict.fromkeys(wanted)]
    tasks += [folder_task(folder) for folder in folders]
    twice = {task.name for task in tasks if sum(task.name == other.name for other in tasks) > 1}
    if twice:
        raise UserError(f"two tasks are called {', '.join(sorted(twice))}: rename a folder")
    return tasks
