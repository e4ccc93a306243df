"""The papers' own benchmarks on saved models, through EleutherAI's lm-evaluation-harness where it is installed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2e_min.lab import hub
from l2e_min.lab.errors import UserError

HARNESS_TASKS = ("arc_easy", "arc_challenge", "piqa", "sciq", "mmlu")
"""W25 Tables 6 and 7 report ARC and MMLU; B23 reports PIQA and SciQ, too."""

METRIC = "acc,none"
"""Share of questions whose right choice has the highest log-likelihood, not divided by its length; no filter."""


@dataclass(frozen=True)
class HarnessScore:
    """Accuracy (a share) on `n` questions, with Wilson's 95 % interval."""

    accuracy: float
    n: int
    low: float
    high: float


def harness_tasks(
    model_folder: str | Path,
    tasks: Sequence[str] = HARNESS_TASKS,
    shots: int = 0,
    *,
    tokenizer: str | Path | None = None,
    device: str = "cpu",
    batch_size: int = 16,
    limit: int | None = None,
) -> dict[str, HarnessScore]:
    """The scores of a saved model (a folder, or "hub:NAME[@REVISION]") on tasks of the harness, by name.

    shots: solved examples before each question (W25: 0 and 5). tokenizer: where it is, if not beside the model.
    limit: only the first so many questions of each (sub)task, for a trial. The harness downloads the questions from the
    Hugging Face hub. Raises UserError where it is not installed, the model does not load, the hub is out of reach, a
    task is unknown or gives no accuracy.
    """
    from scipy.stats import binomtest

    from l2e_min.lab.mini_pythia import load_model

    if isinstance(tasks, str) or not len(tasks):
        raise UserError(f"expected a list of the harness's tasks, such as {', '.join(HARNESS_TASKS)}; got {tasks!r}")
    if shots < 0:
        raise UserError(f"shots is {shots}; expected 0 or more solved examples")
    evaluate, wrapper = _harness()
    model, words = load_model(model_folder, tokenizer=tokenizer)  # safetensors only, and our words where it fails
    if not hub.offline() and not hub.reachable():
        raise hub.trouble(f"read the questions of {', '.join(tasks)}", here=False)
    wrapped = wrapper(pretrained=model.to(device), tokenizer=words, batch_size=batch_size)
    scores = {}
    for task in tasks:  # one by one: then all samples counted are this task's, also for a group such as mmlu
        try:
            found = evaluate(model=wrapped, tasks=[task], num_fewshot=shots, limit=limit, log_samples=False)
        except Exception as error:  # an unknown task, a dataset that does not load
            raise UserError(f"lm_eval cannot run {task!r}: {hub.first_line(error)[:200]}") from error
        accuracy, n = _accuracy(task, found)
        interval = binomtest(round(accuracy * n), n).proportion_ci(method="wilson")
        scores[task] = HarnessScore(accuracy, n, float(interval.low), float(interval.high))
    return scores


def _harness():
    """(simple_evaluate, HFLM) of lm_eval."""
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise UserError(
            "the paper's benchmarks need lm-evaluation-harness; run: pip install lm_eval, or use choice_tasks"
        ) from error
    return simple_evaluate, HFLM


def _accuracy(task: str, found: Mapping | None) -> tuple[float, int]:
    """(accuracy, questions) from what the harness returns."""
    found = found or {}
    row = found.get("results", {}).get(task) or found.get("groups", {}).get(task) or {}
    n = sum(count["effective"] for count in found.get("n-samples", {}).values())
    value = row.get(METRIC)
    if not isinstance(value, int | float) or not 0 <= value <= 1 or n < 1:
        there = ", ".join(key for key in row if "," in key) or "nothing"
        raise UserError(f"lm_eval gives no accuracy for {task!r} (it gives {there}); choose a multiple-choice task")
    return float(value), n
