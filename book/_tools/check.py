"""Checks that an executed chapter tells the truth about its source: same cells, run in order, no error, widgets kept.

python book/_tools/check.py [folder of notebooks]
"""

import re
import sys
from pathlib import Path

from execute import BOOK, WIDGETS, chapters, read_source

VIEW = "application/vnd.jupyter.widget-view+json"
FOREIGN = re.compile(r"/(?:root|home|tmp|work|Users)/\w|[A-Z]:\\\\Users")  # a path of the machine that ran the chapter


def problems(source: Path, made: Path) -> list[str]:
    """What is wrong with the notebook ``made`` from the chapter ``source``; empty where all is well."""
    import nbformat

    if not made.exists():
        return [f"{made.name}: missing; run `make chapters`"]
    notebook, wanted, found = nbformat.read(made, as_version=4), read_source(source), []
    if [(c.cell_type, c.source, c.id) for c in notebook.cells] != [(c.cell_type, c.source, c.id) for c in wanted.cells]:
        return [f"{made.name}: not the cells of {source.name}; run `make chapters`"]
    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"cells were not all run, in order, in one go: {counts}")
    for cell in code:
        if "execution" in cell.metadata:
            found.append(f"cell {cell.id} keeps times of its run")
        for output in cell.outputs:
            found += [f"cell {cell.id}: {text}" for text in _output_problems(output, state)]
    return [f"{made.name}: {text}" for text in found]


def _output_problems(output, state: dict) -> list[str]:
    found = []
    if output.output_type == "error":
        found.append(f"error {output.ename}: {output.evalue}")
    data = output.get("data", {})
    view = data.get(VIEW)
    if view and view["model_id"] not in state:
        found.append("shows a widget whose state was not kept")
    for kind in ("image/png", "image/jpeg", "image/svg+xml"):
        if kind in data and not output.metadata.get(kind, {}).get("alt") and not view:
            found.append("a picture without alternative text; show it with l2e_min.show.figure(fig, alt=...)")
    texts = [output.get("text", "")] + [str(value) for kind, value in data.items() if kind.startswith("text/")]
    for text in texts:
        if hit := FOREIGN.search(text):
            found.append(f"holds a path of the machine it ran on: {text[hit.start() : hit.start() + 60]!r}")
    return found


def all_problems(folder: Path = BOOK, book: Path = BOOK) -> list[str]:
    """The problems of every chapter, and notebooks that no chapter made."""
    sources = chapters(book=book)
    found = [text for source in sources for text in problems(source, folder / f"{source.stem}.ipynb")]
    orphans = sorted(path.name for path in folder.glob("*.ipynb") if path.stem not in {s.stem for s in sources})
    return found + [f"{name}: no chapter's source makes it" for name in orphans]


if __name__ == "__main__":
    messages = all_problems(Path(sys.argv[1]) if len(sys.argv) > 1 else BOOK)
    print("\n".join(messages) or "every notebook holds what its chapter says")
    sys.exit(1 if messages else 0)
