"""The cell with which chapters open on Colab and Kaggle: what it does there, that it does nothing elsewhere."""

import os
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import execute  # noqa: E402
import first_cell  # noqa: E402
import on_colab  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CHAPTER = """# %% [markdown]
# # A chapter

# %%
from l2e_min.show import explorer, new_figure

1 + 1

# %%
explorer(lambda height: new_figure(width=2, height=1.5)[0], {"height": [1, 2]}, title="A bar")
"""


@pytest.mark.parametrize("source", execute.chapters(), ids=lambda path: path.stem)
def test_every_chapter_opens_with_it(source):
    assert first_cell.has_it(source.read_text()), f"python book/_tools/first_cell.py {source.stem}"


def test_it_fetches_the_repository_that_the_book_names():
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert (
        f'"{address}"' in first_cell.CELL and f"{address.rpartition('/')[2]}/book/_tools/on_colab.py" in first_cell.CELL
    )


@pytest.mark.slow
def test_a_notebook_gets_it_as_if_it_had_been_run(tmp_path):
    source, made = tmp_path / "01_a_chapter.py", tmp_path / "01_a_chapter.ipynb"
    source.write_text(CHAPTER)
    made.write_text(execute.execute(source))
    assert first_cell.give(source)
    assert made.read_text() == execute.execute(source)
    cells = nbformat.read(made, as_version=4).cells
    assert [cell.get("execution_count") for cell in cells] == [None, 1, 2, 3]
    assert cells[1].metadata == {"tags": ["remove-cell"]} and cells[1].outputs == []
    before = source.read_text(), made.read_text()
    assert not first_cell.give(source)
    assert (source.read_text(), made.read_text()) == before


def test_a_changed_cell_is_not_it():
    assert first_cell.has_it(f"# %% [markdown]\n# x\n\n{first_cell.CELL}\n# %%\n1\n")
    assert not first_cell.has_it(f"{first_cell.CELL.replace('depth 1', 'depth 2')}\n# %%\n1\n")
    with pytest.raises(ValueError, match="needs a code cell"):
        first_cell.has_it("# %% [markdown]\n# x\n")


# --- what it installs


def test_the_list_is_the_projects_own():
    extras = PROJECT["optional-dependencies"]
    assert on_colab.requirements() == [*PROJECT["dependencies"], *extras["lab"], *extras["show"]]


def test_the_list_holds_what_chapters_import(monkeypatch):
    """Every outer package that a chapter or what it imports asks for while it is loaded."""
    names = {Requirement(text).name.lower() for text in on_colab.requirements()}
    here = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL", "huggingface-hub": "huggingface_hub"}
    modules = {here.get(name, name) for name in names} | {"l2e_min", "IPython"} | set(sys.stdlib_module_names)
    for source in execute.chapters():
        for line in source.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]) and len(words) > 1:
                assert words[1].split(".")[0] in modules, f"{source.name}: {line}"


def test_torch_stays_at_the_platforms_version():
    calls = []

    def run(command, check):
        kept = Path(command[command.index("-c") + 1]).read_text() if "-c" in command else ""
        calls.append((command, kept))

    path = list(sys.path)
    try:
        on_colab.get_ready(run=run)
        assert sys.path[0] == str(ROOT)
    finally:
        sys.path[:] = path
    (first, kept), (second, _) = calls
    assert f"torch=={on_colab.versions()['torch']}\n" in kept
    assert [text for text in first if text.startswith("transformers>")] and "--upgrade" not in first
    assert second[-3:] == ["--no-deps", "-e", str(ROOT)]


@pytest.mark.slow
def test_a_loaded_package_that_was_replaced_is_named(monkeypatch, capsys):
    import numpy

    before = on_colab.versions()
    after = before | {"numpy": "0.0", "nbval": "0.0", "l2e-min": "9"}
    monkeypatch.delitem(sys.modules, "nbval", raising=False)
    assert numpy and "numpy" in on_colab.outdated(before, after) and "nbval" not in on_colab.outdated(before, after)
    found = iter([before, after])
    monkeypatch.setattr(on_colab, "versions", lambda: next(found))
    monkeypatch.setattr(sys, "path", list(sys.path))
    on_colab.get_ready(run=lambda *_, **__: None)
    said = capsys.readouterr().out
    assert "Restart the session" in said and "numpy" in said and "l2e-min" not in said


# --- the cell itself


def run_cell(python, folder: Path, *lines: str, flags: str = "-I", **environment: str) -> subprocess.CompletedProcess:
    """Runs the cell, and ``lines`` after it, in a folder of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("COLAB_", "KAGGLE_", "PYTHON"))}
    code = "\n".join([first_cell.CELL, *lines])
    return subprocess.run(
        [python, flags, "-c", code], cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.parametrize("environment", [{}, {"COLAB_RELEASE_TAG": "x"}], ids=["elsewhere", "Colab, installed"])
def test_it_does_nothing_where_the_package_is_there(tmp_path, environment):
    done = run_cell(sys.executable, tmp_path, **environment)
    assert (done.returncode, done.stdout, done.stderr, list(tmp_path.iterdir())) == (0, "", "", [])


@pytest.mark.parametrize("variable", ["COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_KEY"])
def test_it_knows_both_platforms_and_leaves_other_machines_alone(tmp_path, variable):
    """A Python without any package, and a checkout fetched before; who has Kaggle's client is no platform."""
    (tools := tmp_path / "l2e-min" / "book" / "_tools").mkdir(parents=True)
    (tools / "on_colab.py").write_text('print("ready", __name__)')
    done = run_cell(sys.executable, tmp_path, flags="-IS", **{variable: "x"})
    assert (done.stdout, done.stderr) == ("" if variable == "KAGGLE_KEY" else "ready __main__\n", "")


@pytest.mark.slow
def test_on_a_platform_that_has_torch_only_what_is_missing_comes(tmp_path):
    """A Python with this one's packages but without the project; the address leads to a copy of this folder."""
    copy = tmp_path / "copy"
    for name in ("l2e_min", "book/_tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "data").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "data/claims.yml"):
        shutil.copyfile(ROOT / name, copy / name)
    git = ["git", "-C", str(copy), "-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (place,) = tmp_path.glob("venv/lib/python*/site-packages")
    (place / "others.pth").write_text("".join(f"{path}\n" for path in site.getsitepackages()))
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    redirect = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{copy.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    (folder := tmp_path / "content").mkdir()
    look = (
        "import torch, l2e_min, l2e_min.lab.ledger.claims as c\n"
        "print(torch.__version__, l2e_min.__file__, len(c.load_claims()))"
    )

    missing = run_cell(python, folder, look)
    assert "No module named 'l2e_min'" in missing.stderr and not list(folder.iterdir())
    done = run_cell(python, folder, look, **redirect, COLAB_RELEASE_TAG="x")
    if "setuptools" in done.stderr and "No matching distribution" in done.stderr:
        pytest.skip("the package index does not answer")
    import torch

    from l2e_min.lab.ledger.claims import load_claims

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        torch.__version__,
        str(folder / "l2e-min/l2e_min/__init__.py"),
        str(len(load_claims())),
    ]
    again = run_cell(
        python, folder, look, COLAB_RELEASE_TAG="x"
    )  # the next session: installed, and no address is asked
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")
    assert not (place / "torch").exists(), "torch is the platform's"
