"""Runs chapters: ``NN_name.py`` (py:percent, written by hand) becomes ``NN_name.ipynb`` with outputs and widgets.

    python book/_tools/execute.py                         # every chapter, written next to its source
    python book/_tools/execute.py 01_monosemantic_neuron  # one chapter
    python book/_tools/execute.py --out _build/book       # for the page: a copy of the book, unchanged chapters skipped
    python book/_tools/execute.py --out _build/book --committed  # the same, chapters as they were committed

Two runs on one machine give the same bytes: cell and widget ids come from positions, times are left out.
"""

import argparse
import hashlib
import os
import re
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kernel import quiet_kernels

BOOK = Path(__file__).resolve().parents[1]
ROOT = BOOK.parent
CHAPTER = re.compile(r"\d\d_\w+\.py")
WIDGETS = "application/vnd.jupyter.widget-state+json"
LAYOUT_KEYS = {"lines_to_next_cell", "lines_to_end_of_cell_marker"}  # jupytext's notes about blank lines
CELL_SECONDS = 900  # a chapter takes a minute; a cell that takes a quarter of an hour hangs
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def chapters(names: list[str] | None = None, book: Path = BOOK) -> list[Path]:
    """The chapters' sources in the book's order; all of them, or those named (``01_x``, ``01_x.py`` or a path)."""
    found = sorted(path for path in book.glob("*.py") if CHAPTER.fullmatch(path.name))
    if not names:
        return found
    by_name = {path.stem: path for path in found}
    stems = [Path(name).stem for name in names]
    unknown = [stem for stem in stems if stem not in by_name]
    if unknown:
        raise SystemExit(f"execute.py: no chapter named {', '.join(unknown)}; there are {', '.join(by_name) or 'none'}")
    return [by_name[stem] for stem in stems]


def read_source(source: Path):
    """A chapter's source as an unexecuted notebook with fixed cell ids and fixed metadata."""
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    for position, cell in enumerate(notebook.cells):
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        cell["id"] = f"{position:03d}-{digest}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key not in LAYOUT_KEYS}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.clear()
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3", "file_extension": ".py"}
    return notebook


def execute(source: Path) -> str:
    """Runs a chapter in a fresh kernel and returns the notebook as text.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    quiet_kernels()
    notebook = read_source(source)
    wanted = dict(notebook.metadata)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(source.parent)}},
    )
    client.execute()
    widgets = notebook.metadata.get("widgets")
    notebook.metadata.clear()
    notebook.metadata.update(wanted)
    if widgets:
        notebook.metadata["widgets"] = widgets
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    nbformat.validate(notebook)
    return renumber(notebook, source.stem)


def renumber(notebook, chapter: str) -> str:
    """The notebook as text, widget models numbered in their order of creation instead of at random.

    Ids keep their form (32 hexadecimal digits) and differ between chapters.
    """
    import nbformat

    state = notebook.metadata.get("widgets", {}).get(WIDGETS, {}).get("state", {})
    new = {old: hashlib.sha256(f"{chapter} {n}".encode()).hexdigest()[:32] for n, old in enumerate(state)}
    text = nbformat.writes(notebook, indent=1)
    if new:
        text = re.sub("|".join(new), lambda match: new[match.group()], text)
        text = nbformat.writes(nbformat.reads(text, as_version=4), indent=1)  # in the order of the new ids
    return text + "\n"


def fingerprint(source: Path) -> str:
    """What a chapter's output depends on, as one hash: its source, the package, the data, this tool, the versions."""
    digest = hashlib.sha256(sys.version.encode())
    for package in ("torch", "transformers", "numpy", "scipy", "scikit-learn", "matplotlib", "pillow", "ipywidgets"):
        try:
            digest.update(f"{package} {version(package)}".encode())
        except PackageNotFoundError:
            digest.update(f"{package} missing".encode())
    digest.update(os.environ.get("L2E_PROFILE", "").encode())
    files = [source, Path(__file__)]
    for folder, pattern in (("l2e_min", "*.py"), ("data", "*")):
        files += sorted(p for p in (ROOT / folder).rglob(pattern) if p.is_file() and "__pycache__" not in p.parts)
    for path in files:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
        digest.update(f"\0{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def write_if_changed(path: Path, text: str) -> None:
    """Writes in one move, and leaves an equal file (and its time) alone, so that Sphinx does not read it again."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    spare = path.with_suffix(".tmp")
    spare.write_text(text, encoding="utf-8")
    spare.replace(path)


def copy_book(out: Path, book: Path = BOOK) -> None:
    """Brings everything but chapters and tools to ``out``, and removes what has no source any more."""
    keep = set()
    for path in sorted(book.rglob("*")):
        part = path.relative_to(book)
        skip = {"_tools", "_build", "__pycache__", ".ipynb_checkpoints"} & set(part.parts)
        if path.is_dir() or skip or path.suffix == ".tmp":
            continue
        keep.add(part)
        if path.suffix in {".py", ".ipynb"} and len(part.parts) == 1:
            keep.discard(part.with_suffix(".py"))
            continue
        target = out / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != path.read_bytes():
            shutil.copyfile(path, target)
    keep |= {source.relative_to(book).with_suffix(".ipynb") for source in chapters(book=book)}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.relative_to(out) not in keep:
            path.unlink()


def explain(error: Exception, source: Path) -> str:
    """A failed chapter in words: which chapter, which cell, what Python said."""
    trace = ANSI.sub("", str(error)).strip()
    return f"\n{source.name}: a cell failed\n{trace}\n"


def run(source: str, folder: str) -> tuple[str, float, str]:
    """Runs one chapter and writes it into ``folder``; returns its name, the seconds, and what went wrong (or '')."""
    path, begin = Path(source), time.perf_counter()
    try:
        text = execute(path)
    except Exception as error:  # the other chapters go on; main() reports this one
        return path.stem, time.perf_counter() - begin, explain(error, path)
    write_if_changed(Path(folder) / f"{path.stem}.ipynb", text)
    return path.stem, time.perf_counter() - begin, ""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="names of chapters; all of them by default")
    parser.add_argument("--out", type=Path, help="write here, with a copy of the rest of the book; skips the unchanged")
    parser.add_argument("--jobs", type=int, default=1, help="chapters run at the same time (default 1)")
    parser.add_argument("--force", action="store_true", help="with --out: run unchanged chapters, too")
    parser.add_argument(
        "--committed", action="store_true", help="with --out: take the notebook beside the source instead of running it"
    )
    options = parser.parse_args(argv)
    if options.committed and (options.force or not options.out):
        parser.error("--committed goes with --out, and not with --force")
    if options.jobs < 1:
        parser.error(f"--jobs must be 1 or more, got {options.jobs}")
    sources = chapters(options.chapters)
    if not sources:
        print("execute.py: the book holds no chapter yet")
        return 0
    folder, stamps = BOOK, None
    if options.out:
        folder, stamps = options.out.resolve(), options.out.resolve().parent / "stamps"
        folder.mkdir(parents=True, exist_ok=True)
        stamps.mkdir(parents=True, exist_ok=True)
        copy_book(folder)
    todo = {}
    for source in sources:
        mark, stamp, made = fingerprint(source), stamps and stamps / source.stem, folder / f"{source.stem}.ipynb"
        if stamp and not options.force and made.exists() and stamp.exists() and stamp.read_text() == mark:
            print(f"{source.stem}: unchanged", flush=True)
        elif options.committed:
            write_if_changed(made, source.with_suffix(".ipynb").read_text(encoding="utf-8"))
            stamp.unlink(missing_ok=True)  # nobody has run it here
            print(f"{source.stem}: as committed", flush=True)
        else:
            todo[source.stem] = (source, mark, stamp)
    failures = []
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        waiting = [pool.submit(run, str(source), str(folder)) for source, _, _ in todo.values()]
        for done, future in enumerate(as_completed(waiting), 1):
            name, seconds, problem = future.result()
            print(f"[{done}/{len(todo)}] {name}: {'FAILED' if problem else 'done'} in {seconds:.0f} s", flush=True)
            if problem:
                failures.append(problem)
            elif stamps:
                todo[name][2].write_text(todo[name][1])
    print("".join(failures), file=sys.stderr, end="")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
