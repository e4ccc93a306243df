"""``l2e workshop``: nothing of a solution in a student's copy, everything in the teacher's, and both run."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from l2e_min.lab import cli
from l2e_min.lab.workshop.copies import YOUR_ANSWER, YOUR_TURN
from l2e_min.lab.workshop.directives import Block, blocks, plain_markdown
from l2e_min.lab.workshop.write import chapters, write

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

from kernel import quiet_kernels  # noqa: E402

CHAPTER = """# %% [markdown]
# # 2 A chapter
#
# After {cite:t}`W24`; see [the next one](03_scale_study).
#
# :::{admonition} Try this
# :class: tip
# Look twice.
# :::

# %%
from l2e_min.lab.exercises import check

# %% tags=["hide-input"]
drawn = 1

# %% [markdown]
# ## Exercises
#
# :::{exercise} Recall
# :label: ex-always-yes
# Which F1?
# :::

# %% tags=["exercise"]
f1 = ...  # your turn
check("ex-always-yes", f1)

# %% [markdown]
# :::{solution} ex-always-yes
# :class: dropdown
# The secret is the precision.
# :::

# %% tags=["solution", "hide-cell"]
f1 = 0.18  # the secret number
check("ex-always-yes", f1)

# %% [markdown]
# :::{exercise} Experiment
# :label: ex-try
# Try it.
# :::
#
# :::{solution} ex-try
# :class: dropdown
# ```python
# secret = 3
# ```
# :::
#
# :::{exercise} Critique
# :label: ex-doubt
# Doubt it.
# :::
#
# :::{solution} ex-doubt
# :class: dropdown
# A secret doubt.
# :::
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "02_a_chapter.py").write_text(CHAPTER)
    return folder


@pytest.fixture(scope="module")
def pair(book, tmp_path_factory):
    """The small chapter's student and teacher notebook."""
    paths = write(tmp_path_factory.mktemp("workshop"), book=book)
    assert [path.parent.name for path in paths] == ["student", "teacher"]
    return [nbformat.read(path, as_version=4) for path in paths]


def text_of(notebook) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


def labels_of(cell) -> list[str]:
    return re.findall(r'^check\("([\w-]+)"', cell.source, re.M)


def with_solutions(student, teacher):
    """The student's notebook with the teacher's code in the cells to fill in."""
    answers = {
        label: cell.source
        for cell in teacher.cells
        if "solution" in cell.metadata.get("tags", [])
        for label in labels_of(cell)
    }
    for cell in student.cells:
        for label in labels_of(cell) if "exercise" in cell.metadata.get("tags", []) else []:
            cell.source = answers.pop(label)
    assert not answers
    return student


def executed(notebook, folder) -> str:
    """What the notebook prints; raises where a cell fails."""
    quiet_kernels()
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))


# --- the small chapter


def test_a_student_sees_no_solution(pair):
    student, teacher = pair
    assert "secret" not in text_of(student) and "solution" not in text_of(student).lower()
    assert text_of(teacher).count("secret") == 4
    for name in ("<b>Solution 2.1</b>", "<b>Solution 2.2</b>", "<b>Solution 2.3</b>"):
        assert name in text_of(teacher)


def test_a_student_gets_a_place_to_work(pair):
    cells = pair[0].cells
    after = {cell.source.split("\n")[0]: cells[i + 1] for i, cell in enumerate(cells[:-1])}
    assert after["### Exercise 2.1: recall"].source.startswith("f1 = ...  # your turn")
    assert (after["### Exercise 2.2: experiment"].cell_type, after["### Exercise 2.2: experiment"].source) == (
        "code",
        YOUR_TURN,
    )
    assert after["### Exercise 2.3: critique"].source == YOUR_ANSWER


def test_plain_jupyter_can_show_it(pair):
    for notebook in pair:
        text = text_of(notebook)
        assert ":::" not in text and "{cite" not in text and ":label:" not in text and ":class:" not in text
        assert "After [W24]; see [the next one](03_scale_study.ipynb)." in text
        assert "> **Try this**\n>\n> Look twice." in text
        nbformat.validate(notebook)
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
        drawn = next(cell for cell in notebook.cells if cell.source == "drawn = 1")
        assert drawn.metadata["jupyter"] == {"source_hidden": True} and drawn.outputs == []


def test_every_heading_begins_a_slide(pair):
    kinds = {cell.source.split("\n")[0]: cell.metadata["slideshow"]["slide_type"] for cell in pair[1].cells}
    assert kinds["# 2 A chapter"] == kinds["## Exercises"] == kinds["### Exercise 2.1: recall"] == "slide"
    assert kinds["drawn = 1"] == "subslide" and kinds["from l2e_min.lab.exercises import check"] == "-"


@pytest.mark.slow
def test_copies_run(pair, tmp_path):
    student, teacher = pair
    assert executed(student, tmp_path).count("not yet") == 1
    assert executed(with_solutions(student, teacher), tmp_path).startswith("ex-always-yes: right")
    told = executed(teacher, tmp_path)
    assert told.count("not yet") == told.count("right") == 1


# --- the book


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("workshop")
    write(folder)
    return folder


@pytest.mark.parametrize("source", chapters(), ids=lambda path: path.stem)
def test_every_chapter(source, workshop):
    import jupytext

    student, teacher = (
        nbformat.read(workshop / kind / f"{source.stem}.ipynb", as_version=4) for kind in ("student", "teacher")
    )
    given = text_of(student)
    cells = jupytext.read(source, fmt="py:percent").cells
    secrets = [cell.source for cell in cells if "solution" in cell.metadata.get("tags", [])]
    open_cells = "\n".join(cell.source for cell in cells if "exercise" in cell.metadata.get("tags", []))
    solved = [block for cell in cells if cell.cell_type == "markdown" for block in blocks(cell.source)]
    secrets += [plain_markdown(block.body) for block in solved if block.name == "solution"]
    for secret in secrets:
        for line in filter(None, map(str.strip, secret.split("\n"))):
            if len(line) > 12 and line not in open_cells:
                assert line not in given, line
    asked = len(re.findall(r"^### Exercise ", given, re.M))
    places = sum("exercise" in cell.metadata.get("tags", []) or cell.source == YOUR_ANSWER for cell in student.cells)
    assert asked == places == text_of(teacher).count("<b>Solution ")
    assert ":::" not in given + text_of(teacher)
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert [cell.source for cell in teacher.cells if cell.cell_type == "code"] == code
    for cell in with_solutions(student, teacher).cells:
        if cell.cell_type == "code":
            compile(cell.source, source.stem, "exec")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "label"), [("01_monosemantic_neuron", "ex-threshold"), ("08_own_model", "ex-own-accumulate")]
)
def test_a_chapter_with_solutions_put_back(name, label, workshop, tmp_path, monkeypatch):
    monkeypatch.setenv("L2E_RESULTS", str(tmp_path))
    student, teacher = (
        nbformat.read(workshop / kind / f"{name}.ipynb", as_version=4) for kind in ("student", "teacher")
    )
    told = executed(with_solutions(student, teacher), tmp_path)
    assert f"{label}: right" in told and "not yet" not in told


EXERCISE = re.compile(r"\b(\d+)\.(\d+)(?: (recall|code|experiment|critique))?")


def test_the_guide_names_exercises_that_there_are(workshop):
    """By number, and where it says so by kind: in its plans, and after the word "exercise" elsewhere."""
    guide = (ROOT / "book" / "13_workshop.md").read_text(encoding="utf-8")
    plans = [line.split("|")[3] for line in guide.split("\n") if re.match(r"\| \d+–\d+ ", line)]
    named = [found for cell in plans for found in EXERCISE.findall(cell)]
    for text in re.findall(r"[Ee]xercises? ([^|\n]*)", guide):
        named += EXERCISE.findall(text)
    assert len(named) > 10
    for chapter, place, kind in named:
        (path,) = (workshop / "student").glob(f"{int(chapter):02d}_*.ipynb")
        titles = re.findall(rf"^### Exercise {chapter}\.{place}: (\w+)$", text_of(nbformat.read(path, 4)), re.M)
        assert len(titles) == 1 and kind in ("", titles[0]), f"{chapter}.{place} {kind}: {titles}"


# --- pieces, and bad input


def test_blocks():
    text = "a\n\n:::{tip} One two\n:class: x\n:label: y\nb\n:::\n::::{note}\n:::{inner}\nc\n:::\n::::"
    assert blocks(text) == [
        Block("", "a"),
        Block("tip", "b", "One two", {"class": "x", "label": "y"}),
        Block("note", ":::{inner}\nc\n:::"),
    ]
    with pytest.raises(ValueError, match="does not end with ::::"):
        blocks("::::{note}\na\n:::")


def test_links_to_pages_that_are_no_notebooks_become_words():
    text = "By [`deactivate`](11_reference.md#deactivate), [chapter 2](02_b) and [2](02_b.ipynb#x)."
    assert plain_markdown(text) == "By `deactivate`, [chapter 2](02_b.ipynb) and [2](02_b.ipynb#x)."


def test_chapters_by_number_and_name(capsys, tmp_path):
    assert [path.stem for path in chapters(["2", "01_monosemantic_neuron.py", "02"])] == [
        "01_monosemantic_neuron",
        "02_monosemantic_scale",
    ]
    assert cli.main(["workshop", "--out", str(tmp_path), "--chapters", "99"]) == 2
    assert "no chapter '99'; there are 00_welcome" in capsys.readouterr().err


def test_somebodys_work_is_not_lost(tmp_path, capsys):
    words = ["workshop", "--out", str(tmp_path / "new" / "folder"), "--chapters", "1"]
    assert cli.main(words) == 0
    assert "student: 1 notebooks without solutions" in capsys.readouterr().out
    mine = tmp_path / "new" / "folder" / "student" / "01_monosemantic_neuron.ipynb"
    mine.write_text("my work")
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "is there already" in error and "--force" in error and error.count("\n") == 1
    assert mine.read_text() == "my work"
    assert cli.main([*words, "--force"]) == 0
    assert mine.read_text() != "my work"


def test_out_is_a_file(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert cli.main(["workshop", "--out", str(tmp_path / "taken")]) == 2
    assert "taken is a file, not a folder" in capsys.readouterr().err


def test_no_book_no_jupytext(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("l2e_min.lab.workshop.write.BOOK", tmp_path)
    assert cli.main(["workshop", "--out", str(tmp_path)]) == 2
    assert "the chapters are not here" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "jupytext", None)
    assert cli.main(["workshop", "--out", str(tmp_path)]) == 2
    assert "the package jupytext is missing" in capsys.readouterr().err
