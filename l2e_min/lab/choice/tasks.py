"""The seven tasks: made from held-out files, balanced, the same for the same text and seed."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from l2e_min.lab.choice import cache as shelf
from l2e_min.lab.choice.brackets import PAIRS, closing_bracket
from l2e_min.lab.choice.indentation import WIDTHS, indentation
from l2e_min.lab.choice.item import CHOICES, ChoiceTask, Draft, Item
from l2e_min.lab.choice.names import far_copied_name
from l2e_min.lab.choice.passages import other_file, same_file
from l2e_min.lab.choice.phrases import right_language
from l2e_min.lab.choice.pool import dealt, pool
from l2e_min.lab.choice.sentences import next_sentence
from l2e_min.lab.errors import UserError
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.document import Corpus, Document
from l2e_min.lab.text.overlap import overlapping

TASKS: dict[str, tuple[str, str, Callable[..., list[Draft]]]] = {
    "other_file": ("goes on, not another file", "pmi", other_file),
    "same_file": ("goes on, not elsewhere in the file", "pmi", same_file),
    "right_language": ("goes on in the same language", "pmi", right_language),
    "indentation": ("indentation of the next line", "sum", indentation),
    "closing_bracket": ("bracket that closes", "sum", closing_bracket),
    "far_copied_name": ("name met far back", "pmi", far_copied_name),
    "next_sentence": ("next sentence", "pmi", next_sentence),
}
"""name: (title, score, maker). Where the choices are always the same four, each is right equally often, and the plain
log-likelihood chooses; elsewhere a choice is likely or not by itself, which "pmi" takes away."""

KINDS = {"indentation": len(WIDTHS), "closing_bracket": len(PAIRS)}

SPARE = 4
"""Questions made for each one that is taken: some fall out because they stand in the training text after all."""

MANY = 50
"""Examples that are drawn from, for each shot."""


def choice_tasks(
    names: Sequence[str] | None = None,
    corpus: Corpus | None = None,
    items: int = 320,
    shots: int = 0,
    seed: int = 0,
    *,
    cache: bool = True,
) -> list[ChoiceTask]:
    """The tasks `names` (default: all seven), `items` questions each, with four choices; chance is .25.

    Cut from the `corpus`'s validation and reserved files (default: the installed text). A context with its right
    choice, and every wrong choice, shares no 40 bytes with the training text. Items spread over families and files;
    the right choice is equally often the first, second, third and fourth. `shots`: each item comes with so many solved
    examples, shorter than itself and from other files; its context and choices are those of 0 shots.
    `cache`: kept under BUILD/choice while text and code are unchanged.
    Raises UserError for an unknown name, bad numbers, and a text that has too few questions of a task.
    """
    names = list(TASKS) if names is None else list(names)
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise UserError(f"no such task: {', '.join(unknown) or 'none named'}; the tasks are {', '.join(TASKS)}")
    if items < CHOICES:
        raise UserError(f"items is {items}; at least {CHOICES} are needed, one for each place of the answer")
    if shots < 0:
        raise UserError(f"shots is {shots}; expected 0 or more solved examples")
    corpus = load_corpus("installed") if corpus is None else corpus
    path = shelf.paths(corpus, (items, shots, seed))
    found = {name: task for name in names if cache and (task := shelf.read(path(name)))}
    absent = [name for name in dict.fromkeys(names) if name not in found]
    if absent:
        made = _make(absent, corpus, items, shots, seed)
        for task in made if cache else ():
            shelf.write(path(task.name), task)
        found |= {task.name: task for task in made}
    return [found[name] for name in names]


def _make(names: Sequence[str], corpus: Corpus, items: int, shots: int, seed: int) -> list[ChoiceTask]:
    documents = pool(corpus)
    drafts = {name: _drafts(name, documents, seed, short=False)[: SPARE * items] for name in names}
    shorter = {name: _drafts(name, documents, seed, short=True)[: MANY * shots] if shots else [] for name in names}
    shorter = {name: list({d.context + d.right: d for d in these}.values()) for name, these in shorter.items()}
    seen = _seen([*drafts.values(), *shorter.values()], corpus)
    return [
        _task(name, [d for d in drafts[name] if d not in seen], [d for d in shorter[name] if d not in seen],
              items, shots, seed)
        for name in names
    ]  # fmt: skip


def _drafts(name: str, documents: Sequence[Document], seed: int, short: bool) -> list[Draft]:
    """Every question of a task that the text has, in the order in which they are taken."""
    rng = np.random.default_rng([seed, list(TASKS).index(name), short])
    made = TASKS[name][2](documents, rng, short=short)
    return dealt([d for d in made if len({d.right, *d.wrong}) == CHOICES], rng)


def _seen(groups: Sequence[Sequence[Draft]], corpus: Corpus) -> set[Draft]:
    """The drafts that share 40 bytes with the training text. (Sentences do, whose line breaks were taken out.)"""
    drafts = list(dict.fromkeys(draft for group in groups for draft in group))
    texts = ["\0".join((d.context + d.right, *d.wrong)) for d in drafts]
    return {d for d, there in zip(drafts, overlapping(texts, (d.text for d in corpus.train)), strict=True) if there}


def _task(name: str, drafts: list[Draft], shorter: list[Draft], items: int, shots: int, seed: int) -> ChoiceTask:
    taken = drafts[:items]
    counts = Counter(draft.kind for draft in taken)
    even = min(counts.values(), default=0) >= items // KINDS.get(name, 1) and len(counts) == KINDS.get(name, 1)
    if len(taken) < items or not even:
        most = min((Counter(d.kind for d in drafts)).values(), default=0) * KINDS.get(name, 1)
        raise UserError(f"{name}: this text has {most} questions of {items} asked for; ask for fewer, or leave it out")
    rng = np.random.default_rng([seed, list(TASKS).index(name), shots, 1])
    places = np.random.default_rng([seed, list(TASKS).index(name)]).permutation(np.arange(items) % CHOICES)
    return ChoiceTask(
        name, *TASKS[name][:2], shots,
        tuple(_item(d, int(p), _examples(name, d, shorter, shots, rng)) for d, p in zip(taken, places, strict=True)),
    )  # fmt: skip


def _item(draft: Draft, place: int, examples: tuple[str, ...]) -> Item:
    choices = (*draft.wrong[:place], draft.right, *draft.wrong[place:])
    return Item(draft.context, choices, place, draft.source, draft.family, examples)


def _examples(name: str, draft: Draft, shorter: list[Draft], shots: int, rng: np.random.Generator) -> tuple[str, ...]:
    others = [d for d in shorter if d.source != draft.source]
    if len(others) < shots:
        raise UserError(f"{name}: this text has {len(others)} examples of {shots} asked for; ask for fewer shots")
    drawn = rng.choice(len(others), shots, replace=False) if shots else ()
    return tuple(others[i].context + others[i].right for i in drawn)
