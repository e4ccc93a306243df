"""Gives chapters the cell with which they open on Colab and Kaggle, in the source and in the notebook.

    python book/_tools/first_cell.py                # every chapter that has none
    python book/_tools/first_cell.py 08_own_model   # one chapter

Where ``l2e_min`` is installed the cell does nothing and prints nothing, so a notebook that has been run need not be run
again: the cell goes in as one that was run first.
"""

import re
import sys
from pathlib import Path

from execute import BOOK, chapters, read_source, write_if_changed

CELL = """# %% tags=["remove-cell"]
# On Colab and Kaggle: fetches the book and what it lacks; torch stays. Elsewhere: nothing.
import importlib.util
import os
import runpy

if importlib.util.find_spec("l2e_min") is None:
    if any(name.startswith(("COLAB_", "KAGGLE_KERNEL")) for name in os.environ):
        address = "https://github.com/l2e-min/l2e-min"
        os.system(f"test -d l2e-min || git clone --quiet --depth 1 {address}")
        runpy.run_path("l2e-min/book/_tools/on_colab.py", run_name="__main__")
"""
CODE = re.compile(r"^# %%(?! *\[markdown\]).*$", re.M)  # where a code cell begins
NEXT = re.compile(r"^# %%", re.M)


def first_code(text: str) -> tuple[int, int]:
    """Where the first code cell of a chapter begins and ends. ValueError: it has none."""
    begin = CODE.search(text)
    if begin is None:
        raise ValueError("a chapter needs a code cell")
    end = NEXT.search(text, begin.end())
    return begin.start(), end.start() if end else len(text)


def has_it(text: str) -> bool:
    """Whether a chapter's first code cell is ``CELL``, word for word."""
    begin, end = first_code(text)
    return text[begin:end].strip() == CELL.strip()


def give(source: Path) -> bool:
    """Puts the cell into a chapter and, where there is one, its notebook; False where it was there already."""
    import nbformat

    text = source.read_text(encoding="utf-8")
    if has_it(text):
        return False
    begin, _ = first_code(text)
    source.write_text(f"{text[:begin]}{CELL}\n{text[begin:]}", encoding="utf-8")
    made = source.with_suffix(".ipynb")
    if made.exists():
        notebook, wanted = nbformat.read(made, as_version=4), read_source(source)
        number = next(i for i, cell in enumerate(wanted.cells) if cell.cell_type == "code")
        wanted.cells[number].execution_count = 0  # becomes 1 with the others
        notebook.cells.insert(number, wanted.cells[number])
        for cell, new in zip(notebook.cells, wanted.cells, strict=True):
            cell["id"] = new.id
            for place in (cell, *cell.get("outputs", ())):
                if place.get("execution_count") is not None:
                    place.execution_count += 1
        write_if_changed(made, nbformat.writes(notebook, indent=1) + "\n")
    return True


if __name__ == "__main__":
    for chapter in chapters(sys.argv[1:], BOOK):
        if give(chapter):
            print(f"{chapter.stem}: has its first cell now")
