"""How often a model picks the right choice, with an interval; which tasks are hard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from l2e_min.lab.choice.item import CHANCE, ChoiceTask, Item
from l2e_min.lab.choice.scoring import loglikelihoods
from l2e_min.lab.errors import UserError

BETWEEN = "\n\n"
"""Stands behind each solved example."""


@dataclass(frozen=True)
class TaskScore:
    """What a model scores on one task. Accuracies are shares, chance is .25."""

    accuracy: float
    n: int
    low: float
    high: float
    """Wilson's 95 % interval of the accuracy: of other items, for this very model."""

    alone: float
    """Accuracy of the choices' log-likelihoods without any context: what a question gives away by its choices."""

    examples: float
    """Solved examples that stood before an item, on average: those that the model's context has room for."""

    correct: np.ndarray
    """(n,) bool, in the order of the items, to compare two models item by item."""

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high


def evaluate(model: nn.Module, tokenizer, tasks: Sequence[ChoiceTask], batch_size: int = 32) -> dict[str, TaskScore]:
    """The model's score on each task, by name; the model's weights should be float32.

    The choice with the highest score is the answer. "pmi": log-likelihood after the context minus log-likelihood after
    nothing (a document's beginning); "sum": after the context alone. Neither is divided by the length. Solved examples
    stand whole before the context, nearest first, as many as fit into the model's context; the item's own context is
    never cut for them. Raises UserError for no tasks, a bad batch size, and what the tokenizer cannot encode.
    """
    if not len(tasks):
        raise UserError("no tasks to evaluate; expected a list of what choice_tasks gives")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise UserError(f"two tasks have one name: {', '.join(names)}; evaluate them one after the other")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    begin = [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
    if begin == [None]:
        raise UserError("the tokenizer has no token for the beginning of a text (bos_token or eos_token)")
    room = getattr(model.config, "max_position_embeddings", None) or 10**9
    items = [item for task in tasks for item in task.items]
    ids = _Ids(tokenizer, items)
    shown = [_before(item, ids, begin, room) for item in items]
    choices = [[ids[choice] for choice in item.choices] for item in items]
    after = loglikelihoods(model, [context for context, _ in shown], choices, batch_size).double().numpy()  # (n, 4)
    distinct = list(dict.fromkeys(choice for item in items for choice in item.choices))
    alone = loglikelihoods(model, [begin] * len(distinct), [[ids[c]] for c in distinct], 4 * batch_size)[:, 0].double()
    nothing = dict(zip(distinct, alone.tolist(), strict=True))
    scores, start = {}, 0
    for task in tasks:
        rows = slice(start, start := start + len(task.items))
        without = np.array([[nothing[choice] for choice in item.choices] for item in task.items])
        examples = float(np.mean([n for _, n in shown[rows]]))
        scores[task.name] = score_of(task, after[rows], without, examples)
    return scores


def score_of(task: ChoiceTask, after: np.ndarray, without: np.ndarray, examples: float = 0.0) -> TaskScore:
    """The task's score from log-likelihoods of the choices with and without context, (n, 4) each."""
    from scipy.stats import binomtest

    if task.score not in ("pmi", "sum"):
        raise UserError(f"the task {task.name} is scored by {task.score!r}; expected pmi or sum")
    answers = np.array([item.answer for item in task.items])
    correct = (after - without if task.score == "pmi" else after).argmax(1) == answers
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    given_away = float(np.mean(without.argmax(1) == answers))
    return TaskScore(
        float(correct.mean()), len(correct), float(interval.low), float(interval.high), given_away, examples, correct
    )


def hard_and_easy(scores: Mapping | Sequence[Mapping]) -> tuple[list[str], list[str]]:
    """(hard, easy): the half of the tasks on which a plain model scores least above chance, and the rest (claim C18).

    scores: {task: accuracy or `TaskScore`} of a plain model of another seed than those that are compared, or several
    such, whose mean counts. Of an odd number of tasks the middle one is hard. Both lists: lowest score first.
    Raises UserError for no scores, different tasks, and fewer than two tasks.
    """
    several = [scores] if isinstance(scores, Mapping) else list(scores)
    if not several or any(set(one) != set(several[0]) for one in several):
        raise UserError("expected the scores of one or more models, all on the same tasks")
    if len(several[0]) < 2:
        raise UserError(f"hard and easy are halves of at least two tasks, got {len(several[0])}")
    value = {
        name: np.mean([getattr(one[name], "accuracy", one[name]) for one in several]) - CHANCE for name in several[0]
    }
    order = sorted(value, key=lambda name: (value[name], name))
    half = (len(order) + 1) // 2
    return order[:half], order[half:]


class _Ids(dict):
    """Token ids of every string of the items, each encoded once."""

    def __init__(self, tokenizer, items: Sequence[Item]):
        texts = {t for i in items for t in (i.context, *i.choices, *(e + BETWEEN for e in i.examples))}
        ordered = sorted(texts)
        encoded = tokenizer(ordered, add_special_tokens=False)["input_ids"] if ordered else []
        super().__init__(zip(ordered, encoded, strict=True))


def _before(item: Item, ids: Mapping[str, list[int]], begin: list[int], room: int) -> tuple[list[int], int]:
    """Ids of what stands before the choices, and the number of examples in it."""
    for choice in item.choices:
        if not ids[choice]:
            raise UserError(f"a choice of an item from {item.source} is empty; expected at least one token")
    longest = max(len(ids[choice]) for choice in item.choices)
    left = room - len(begin) - (longest - 1)  # the last token is only predicted
    if left < 1:
        raise UserError(f"a choice of an item from {item.source} is longer than the model's context of {room} tokens")
    context, shown = ids[item.context][-left:], 0
    for example in reversed(item.examples):
        more = ids[example + BETWEEN]
        if len(more) + len(context) > left:
            break
        context, shown = more + context, shown + 1
    return begin + context, shown
