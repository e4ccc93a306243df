"""Writes the workshop's folder: ``student/`` and ``teacher/``, a notebook a chapter in each."""

import re
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.paths import ROOT
from l2e_min.lab.workshop.copies import copy_of, read_chapter

BOOK = ROOT / "book"
KINDS = {"student": False, "teacher": True}
"""Folder -> whether its notebooks hold the solutions."""


def chapters(names: list[str] | None = None, book: Path | None = None) -> list[Path]:
    """The chapters' sources in the book's order: all, or those named by file (``01_x``) or number (``1``).

    UserError: no book here, or no such chapter.
    """
    book = BOOK if book is None else book
    found = sorted(path for path in book.glob("*.py") if re.fullmatch(r"\d\d_\w+", path.stem))
    if not found:
        raise UserError(
            "the chapters are not here; run l2e from a checkout of the book, installed with pip install -e ."
        )
    if not names:
        return found
    chosen = []
    for name in names:
        stem = Path(name).stem
        fits = [p for p in found if p.stem == stem or (stem.isdecimal() and int(p.stem[:2]) == int(stem))]
        if not fits:
            raise UserError(f"no chapter {name!r}; there are {', '.join(path.stem for path in found)}")
        chosen += fits
    return sorted(set(chosen))


def write(out: Path, names: list[str] | None = None, force: bool = False, book: Path | None = None) -> list[Path]:
    """Writes both copies of the chapters below ``out`` and returns the files, students' first.

    UserError: files are there already (unless ``force``), ``out`` is no folder, jupytext is missing.
    """
    sources = chapters(names, book)
    targets = {folder: [out / folder / f"{source.stem}.ipynb" for source in sources] for folder in KINDS}
    for part in (out, *(out / folder for folder in KINDS)):
        if part.exists() and not part.is_dir():
            raise UserError(f"--out {out}: {part} is a file, not a folder")
    there = [path for paths in targets.values() for path in paths if path.exists()]
    if there and not force:
        raise UserError(f"{there[0]} is there already, perhaps with somebody's work in it; --force writes over it")
    try:
        import jupytext  # noqa: F401
        import nbformat
    except ImportError as error:
        raise UserError(f"the package {error.name} is missing; pip install -e '.[book]' brings it") from None
    for folder, solutions in KINDS.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        for source, target in zip(sources, targets[folder], strict=True):
            notebook = copy_of(read_chapter(source), str(int(source.stem[:2])), solutions)
            nbformat.validate(notebook)
            target.write_text(nbformat.writes(notebook, indent=1) + "\n", encoding="utf-8")
    return [path for paths in targets.values() for path in paths]
