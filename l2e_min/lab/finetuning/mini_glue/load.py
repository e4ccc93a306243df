"""Builds the tasks of the mini GLUE from a corpus, once, and keeps them as plain JSON under BUILD."""

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.finetuning.mini_glue import pieces as pieces_module
from l2e_min.lab.finetuning.mini_glue.accept import accept
from l2e_min.lab.finetuning.mini_glue.pairs import halves, match, paraphrase
from l2e_min.lab.finetuning.mini_glue.sts import sts
from l2e_min.lab.finetuning.mini_glue.topic import topic
from l2e_min.lab.finetuning.split import PARTS
from l2e_min.lab.finetuning.task import Rows, Task
from l2e_min.lab.paths import BUILD
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.document import Corpus

_BUILDERS = {builder.__name__: builder for builder in (accept, topic, match, halves, paraphrase, sts)}
MINI_GLUE = tuple(_BUILDERS)
"""Names of the tasks, in the order of their counterparts in GLUE's tables (single sentences first)."""

KEPT = 12
"""Cached task files: two states of the six tasks."""


def mini_glue(names: Sequence[str] | None = None, corpus: Corpus | None = None) -> list[Task]:
    """The tasks with these names, in this order (default: all of `MINI_GLUE`).

    corpus: the text they are cut from (default: the installed text). The first call cuts it, which takes half a minute;
    later ones read BUILD/mini_glue, valid while text and code are unchanged.
    Raises UserError for an unknown name, and for a corpus with too little text for a task.
    """
    names = MINI_GLUE if names is None else tuple(names)
    for name in names:
        if name not in _BUILDERS:
            raise UserError(f"no task {name!r} in the mini GLUE; expected one of {', '.join(MINI_GLUE)}")
    corpus = load_corpus("installed") if corpus is None else corpus
    key = hashlib.sha256((corpus.fingerprint + _code()).encode()).hexdigest()[:16]
    cut = functools.cache(lambda: pieces_module.cut(corpus))
    return [_cached(name, key, lambda name=name: _BUILDERS[name](cut())) for name in names]


def mini_task(name: str, corpus: Corpus | None = None) -> Task:
    """One task by its name (see `mini_glue`)."""
    return mini_glue([name], corpus)[0]


def describe(tasks: Sequence[Task]) -> list[dict[str, object]]:
    """Rows to print: task, split, rows, files, the largest share of a class, words a row, and an example."""
    table = []
    for task in tasks:
        for part in PARTS:
            rows: Rows = getattr(task, part)
            shares = Counter(rows.labels.tolist())
            texts = rows.first
            if rows.second is not None:
                texts = [f"{a} | {b}" for a, b in zip(rows.first, rows.second, strict=True)]
            label = rows.labels[0]
            table.append({"task": task.name, "like": task.like, "metric": task.metric, "split": part,
                          "rows": len(rows), "files": len(set(rows.sources)), "classes": len(shares),
                          "largest class": round(max(shares.values()) / len(rows), 3),
                          "words": round(float(np.mean([len(text.replace(" | ", " ").split()) for text in texts])), 1),
                          "example": texts[0],
                          "label": task.classes[int(label)] if task.classes else float(label)})  # fmt: skip
    return table


@functools.cache
def _code() -> str:
    """The code that decides what a task holds."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), folder.parent / "split.py", folder.parent / "task.py"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _cached(name: str, key: str, build) -> Task:
    path = BUILD / "mini_glue" / f"{name}-{key}.json"
    if path.is_file():
        try:
            return _unpack(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a damaged cache is only a cache: build again
    task = build()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.tmp")  # several runs may start at once: move a whole file into place
    part.write_text(json.dumps(_pack(task), ensure_ascii=False), encoding="utf-8")
    part.replace(path)
    for old in sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
    return task


_FIELDS = ("name", "title", "kind", "metric", "classes", "like", "about", "max_tokens")


def _pack(task: Task) -> dict[str, object]:
    packed: dict[str, object] = {field: getattr(task, field) for field in _FIELDS}
    for part in PARTS:
        rows: Rows = getattr(task, part)
        packed[part] = [rows.first, rows.second, rows.labels.tolist(), rows.sources]
    return packed


def _unpack(packed: dict) -> Task:
    kind = np.int64 if packed["kind"] == "classification" else np.float64
    for part in PARTS:
        first, second, labels, sources = packed[part]
        second = None if second is None else tuple(second)
        packed[part] = Rows(tuple(first), second, np.array(labels, dtype=kind), tuple(sources))
    return Task(**{**packed, "classes": tuple(packed["classes"])})
