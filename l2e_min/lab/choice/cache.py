"""Questions once made, kept under BUILD/choice while the text and the code that makes them are unchanged."""

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from l2e_min.lab.choice.item import ChoiceTask, Item
from l2e_min.lab.paths import BUILD
from l2e_min.lab.text.document import Corpus

KEPT = 60
"""Cached tasks (0.2 MB each); the oldest go."""


def paths(corpus: Corpus, numbers: tuple[int, ...]) -> Callable[[str], Path]:
    """Where a task of this name would lie, for this text, this code and these numbers."""
    digest = hashlib.sha256(f"{corpus.fingerprint} {numbers}".encode())
    for document in corpus.reserved:  # which the fingerprint, of what a model was trained on, leaves out
        digest.update(f"\0{document.family}\0{document.source}\0{document.text}".encode())
    digest.update(_code().encode())
    return lambda name: BUILD / "choice" / f"{name}-{digest.hexdigest()[:16]}.json"


def _code() -> str:
    from l2e_min.lab.choice import brackets, indentation, item, names, passages, phrases, pool, sentences, tasks
    from l2e_min.lab.text import installed, overlap

    makers = (brackets, indentation, item, names, passages, phrases, pool, sentences, tasks, installed, overlap)
    return "".join(inspect.getsource(module) for module in makers)


def read(path: Path) -> ChoiceTask | None:
    """The task in a file; None where there is none, or a damaged one: it is made again."""
    try:
        packed = json.loads(path.read_text(encoding="utf-8"))
        items = packed.pop("items")
        tuples = [{**i, "choices": tuple(i["choices"]), "examples": tuple(i["examples"])} for i in items]
        return ChoiceTask(**packed, items=tuple(Item(**i) for i in tuples))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, task: ChoiceTask) -> None:
    """Puts a task there, whole or not at all: several runs may start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.tmp")
    part.write_text(json.dumps(asdict(task), ensure_ascii=False), encoding="utf-8")
    part.replace(path)
    for old in sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
        old.unlink(missing_ok=True)
