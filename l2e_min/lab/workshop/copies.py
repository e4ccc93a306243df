"""A chapter's cells as two notebooks: the student's, in which every solution is a place to work, and the teacher's."""

import re
from copy import deepcopy
from pathlib import Path

from l2e_min.lab.workshop.directives import Block, blocks, plain_markdown, quoted

YOUR_TURN = "# your turn\n"
YOUR_ANSWER = "*Your answer:*"
HEADING = re.compile(r"^(?=#{1,3} )", re.MULTILINE)
WRITTEN = {"Recall", "Critique"}
"""Kinds of exercise that are answered in words; the others get a cell for code."""


def read_chapter(source: Path):
    """A chapter's ``.py`` as a notebook without outputs."""
    import jupytext

    return jupytext.read(source, fmt="py:percent")


def copy_of(chapter, number: str, solutions: bool):
    """The student's (``solutions=False``) or the teacher's notebook of a chapter that ``read_chapter`` gave.

    number: the chapter's, such as "2"; exercises are called "Exercise 2.1" and so on.
    """
    notebook = deepcopy(chapter)
    kinds, filled = _exercises(chapter)
    made = []
    for cell in chapter.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            if solutions or "solution" not in tags:
                made.append(_code(cell.source, tags))
            continue
        for block in blocks(cell.source):
            if block.name == "solution" and not solutions:
                if block.argument not in filled:
                    written = kinds[block.argument][1] in WRITTEN
                    made.append(_markdown(YOUR_ANSWER) if written else _code(YOUR_TURN, ["exercise"]))
            else:
                made += [_markdown(text) for text in _words(block, number, kinds)]
    for position, cell in enumerate(made):
        cell["id"] = f"{position:03d}"
    notebook.cells = made
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata.clear()
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _exercises(chapter) -> tuple[dict[str, tuple[int, str]], set[str]]:
    """Label -> (place in the chapter, kind) of every exercise, and the labels that have a cell to fill in."""
    kinds, filled, last = {}, set(), None
    for cell in chapter.cells:
        if cell.cell_type == "code":
            if "exercise" in cell.metadata.get("tags", []):
                filled.add(last)
            continue
        for block in blocks(cell.source):
            if block.name == "exercise":
                last = block.options["label"]
                kinds[last] = len(kinds) + 1, block.argument
    return kinds, filled


def _words(block: Block, number: str, kinds: dict[str, tuple[int, str]]) -> list[str]:
    """One text a Markdown cell: plain text is cut at its headings, so that each can begin a slide."""
    body = plain_markdown(block.body)
    if block.name == "exercise":
        place, kind = kinds[block.options["label"]]
        return [f"### Exercise {number}.{place}" + (f": {kind.lower()}" if kind else "") + f"\n\n{body}"]
    if block.name == "solution":
        place, _ = kinds[block.argument]
        return [f"<details><summary><b>Solution {number}.{place}</b></summary>\n\n{body}\n\n</details>"]
    if block.name:
        return [quoted(plain_markdown(block.argument), body)]
    return [part.strip("\n") for part in HEADING.split(body) if part.strip()]


def _markdown(text: str):
    import nbformat

    cell = nbformat.v4.new_markdown_cell(text)
    cell.metadata["slideshow"] = {"slide_type": "slide" if HEADING.match(text) else "subslide"}
    return cell


def _code(text: str, tags: list[str]):
    """A code cell; on a slide a figure stands alone, and JupyterLab folds what the book's page folds."""
    import nbformat

    cell = nbformat.v4.new_code_cell(text)
    hidden = {"hide-input", "hide-cell"} & set(tags)
    if tags:
        cell.metadata["tags"] = list(tags)
    if hidden:
        cell.metadata["jupyter"] = {"source_hidden": True}
    cell.metadata["slideshow"] = {"slide_type": "subslide" if hidden else "-"}
    return cell
