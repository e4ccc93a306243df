"""The tools that run and check chapters: same bytes twice, failures named, untruths seen."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import check  # noqa: E402
import execute  # noqa: E402

CHAPTER = """# %% [markdown]
# # A chapter
#
# $x^2$

# %%
from tqdm.auto import tqdm

from l2e_min.show import explorer, figure, new_figure

print(sum(tqdm(range(4))))


def draw(height):
    fig, ax = new_figure(width=2, height=1.5)
    ax.bar([0], [height])
    return fig


# %% tags=["hide-input"]
figure(draw(1), alt="One bar.")

# %%
explorer(draw, {"height": [1, 2]}, title="A bar")
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "01_a_chapter.py").write_text(CHAPTER)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: 01_a_chapter\n")
    (folder / "_tools").mkdir()
    (folder / "_tools" / "tool.py").write_text("")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.svg").write_text("<svg/>")
    return folder


SLOW_FIXTURES = {"made"}  # in a kernel


@pytest.fixture(scope="module")
def made(book) -> str:
    return execute.execute(book / "01_a_chapter.py")


def written(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "01_a_chapter.ipynb"
    path.write_text(text)
    return path


def test_two_runs_give_the_same_bytes(book, made):
    assert execute.execute(book / "01_a_chapter.py") == made
    assert made.endswith("}\n") and "iopub" not in made and "tqdm_notebook" not in made


def test_what_a_run_keeps(book, made, tmp_path):
    notebook = nbformat.reads(made, as_version=4)
    assert check.problems(book / "01_a_chapter.py", written(made, tmp_path)) == []
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    assert [output.get("text") for output in notebook.cells[1].outputs] == ["6\n"]  # and no progress bar
    assert notebook.cells[2].metadata == {"tags": ["hide-input"]}
    assert notebook.cells[2].outputs[0].metadata["image/png"]["alt"] == "One bar."
    assert set(notebook.metadata) == {"kernelspec", "language_info", "widgets"}
    view = notebook.cells[3].outputs[0].data[check.VIEW]["model_id"]
    state = notebook.metadata.widgets[execute.WIDGETS]["state"]
    assert state[view]["model_name"] == "VBoxModel" and len(view) == 32
    children = [name.removeprefix("IPY_MODEL_") for name in state[view]["state"]["children"]]
    assert all(child in state for child in children), "references must be renumbered with the models"


def test_ids_hold_for_what_did_not_change(book, tmp_path):
    first = execute.read_source(book / "01_a_chapter.py")
    again = tmp_path / "01_a_chapter.py"
    again.write_text(CHAPTER.replace("A bar", "Another bar"))
    same = [a.id == b.id for a, b in zip(first.cells, execute.read_source(again).cells, strict=True)]
    assert same == [True, True, True, False]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda nb: nb.cells[1].update(source="1 + 1"), "not the cells of"),
        (lambda nb: nb.cells.pop(), "not the cells of"),
        (lambda nb: nb.cells[2].update(execution_count=None), "not all run, in order"),
        (lambda nb: nb.cells[2].update(execution_count=7), "not all run, in order"),
        (lambda nb: nb.cells[1].metadata.update(execution={"iopub.status.idle": "now"}), "keeps times"),
        (lambda nb: nb.metadata.pop("widgets"), "state was not kept"),
        (lambda nb: nb.cells[2].outputs[0].metadata.clear(), "picture without alternative text"),
        (lambda nb: nb.cells[1].outputs[0].update(text="see /home/someone/x"), "a path of the machine"),
        (
            lambda nb: nb.cells[1].outputs.append(
                nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
            ),
            "error ValueError: no",
        ),
    ],
)
def test_check_sees(book, made, tmp_path, spoil, complaint):
    notebook = nbformat.reads(made, as_version=4)
    spoil(notebook)
    found = check.problems(book / "01_a_chapter.py", written(nbformat.writes(notebook), tmp_path))
    assert any(complaint in text for text in found), found


def test_check_sees_missing_and_orphaned_notebooks(book, tmp_path):
    (tmp_path / "09_gone.ipynb").write_text("{}")
    found = check.all_problems(tmp_path, book)
    assert len(found) == 2 and "01_a_chapter.ipynb: missing" in found[0] and "09_gone.ipynb: no chapter" in found[1]


@pytest.fixture
def here(book, tmp_path, monkeypatch):
    """The tool, looking at a copy of the small book."""
    copy = tmp_path / "book"
    shutil.copytree(book, copy)
    monkeypatch.setattr(execute, "BOOK", copy)
    monkeypatch.setattr(execute.chapters, "__defaults__", (None, copy))
    monkeypatch.setattr(execute.copy_book, "__defaults__", (copy,))
    return copy


@pytest.mark.slow
def test_out_copies_the_book_and_skips_the_unchanged(here, tmp_path, capsys):
    out = tmp_path / "build" / "book"
    before = sorted(here.rglob("*"))
    assert execute.main(["--out", str(out)]) == 0
    assert sorted(here.rglob("*")) == before, "the source folder must stay as it is"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {"01_a_chapter.ipynb", "_toc.yml", "pictures/a.svg"}
    made = (out / "01_a_chapter.ipynb").stat().st_mtime_ns
    assert "done in" in capsys.readouterr().out
    assert execute.main(["--out", str(out)]) == 0
    assert capsys.readouterr().out == "01_a_chapter: unchanged\n"
    assert (out / "01_a_chapter.ipynb").stat().st_mtime_ns == made
    (here / "pictures" / "a.svg").unlink()
    (here / "01_a_chapter.py").write_text(CHAPTER.replace("[1, 2]", "[1, 3]"))
    assert execute.main(["--out", str(out)]) == 0
    assert "done in" in capsys.readouterr().out
    assert not (out / "pictures" / "a.svg").exists()


def test_the_page_may_show_the_notebooks_as_committed(here, made, tmp_path, capsys):
    out = tmp_path / "build" / "book"
    (here / "01_a_chapter.ipynb").write_text(made)
    assert execute.main(["--out", str(out), "--committed"]) == 0
    assert capsys.readouterr().out == "01_a_chapter: as committed\n"
    assert (out / "01_a_chapter.ipynb").read_text() == made
    assert execute.main(["--out", str(out)]) == 0
    assert "done in" in capsys.readouterr().out, "what was not run here is run when that is asked for"
    assert execute.main(["--out", str(out), "--committed"]) == 0
    assert capsys.readouterr().out == "01_a_chapter: unchanged\n", "what was run here stays"
    for words in (["--committed"], ["--committed", "--out", str(out), "--force"]):
        with pytest.raises(SystemExit):
            execute.main(words)


@pytest.mark.slow
def test_a_failing_cell_is_named(here, capsys):
    (here / "02_broken.py").write_text("# %%\nprice = 3\n\n# %%\nprice / 0\n")
    assert execute.main([]) == 1
    said = capsys.readouterr()
    assert "01_a_chapter: done" in said.out and "02_broken: FAILED" in said.out
    assert "02_broken.py" in said.err and "price / 0" in said.err and "ZeroDivisionError" in said.err
    assert (here / "01_a_chapter.ipynb").exists() and not (here / "02_broken.ipynb").exists()


def test_unknown_chapter(here):
    with pytest.raises(SystemExit, match="no chapter named 07_nothing; there are 01_a_chapter"):
        execute.main(["07_nothing"])


def test_fingerprint_follows_what_a_chapter_uses(here, monkeypatch, tmp_path):
    source = here / "01_a_chapter.py"
    first = execute.fingerprint(source)
    assert execute.fingerprint(source) == first
    monkeypatch.setenv("L2E_PROFILE", "gpu")
    assert execute.fingerprint(source) != first
    monkeypatch.delenv("L2E_PROFILE")
    (tmp_path / "l2e_min").mkdir()
    (tmp_path / "l2e_min" / "new.py").write_text("x = 1\n")
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    second = execute.fingerprint(source)
    (tmp_path / "l2e_min" / "new.py").write_text("x = 2\n")
    assert execute.fingerprint(source) != second


def test_chapters_run_in_the_quick_profile_unless_asked(monkeypatch):
    import os

    import kernel

    for name in ("IPYTHONDIR", "PYTHONHASHSEED", "TQDM_DISABLE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back afterwards
    monkeypatch.setenv("L2E_PROFILE", "x")
    monkeypatch.delenv("L2E_PROFILE")
    kernel.quiet_kernels()
    assert os.environ["L2E_PROFILE"] == "quick"
    os.environ["L2E_PROFILE"] = "paper"
    kernel.quiet_kernels()
    assert os.environ["L2E_PROFILE"] == "paper"
