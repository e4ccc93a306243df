"""CONTRIBUTING.md is true: its map, its rules on imports, and each recipe, followed in a copy of the project."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAME = "99_a_trial"


def section(title: str) -> str:
    """The text below a heading, up to the next one of any level."""
    return re.search(rf"^#+ {title}\n(.*?)(?=^#|\Z)", TEXT, re.M | re.S)[1]


def files_of(recipe: str) -> set[str]:
    """The files that a recipe names, in its list."""
    return {path.replace("NN_name", NAME) for path in re.findall(r"^- `([^`]+)`", section(recipe), re.M)}


class Copy:
    """A copy of the project in which a recipe is followed."""

    def __init__(self, folder: Path):
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__", "*.ipynb", "models", "figures", "*.jsonl")
        for name in ("l2e_min", "tests", "book", "data"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        (folder / "data" / "models").symlink_to(ROOT / "data" / "models")
        for name in ("pyproject.toml", "_config.yml"):
            shutil.copyfile(ROOT / name, folder / name)
        self.before = self.contents()

    def contents(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file() and "_build" not in path.parts)
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in found
            if not {"__pycache__", ".hypothesis", "models"} & set(path.parts)
        }

    def touched(self) -> set[str]:
        """Files that were changed, made or removed."""
        after = self.contents()
        return {name for name in self.before | after if self.before.get(name) != after.get(name)}

    def change(self, name: str, old: str, new: str) -> None:
        """Replaces what stands once in a file."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} holds {old!r} {text.count(old)} times"
        (self.folder / name).write_text(text.replace(old, new), encoding="utf-8")

    def python(self, *words: str) -> str:
        """Runs Python in the copy, on the copy's package, and gives what it printed."""
        environment = os.environ | {
            "PYTHONPATH": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment = {name: value for name, value in environment.items() if not name.startswith(("L2E_", "PYTEST_"))}
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def pytest(self, *words: str) -> str:
        return self.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *words)


@pytest.fixture
def copy(tmp_path) -> Copy:
    return Copy(tmp_path / "project")


# --- the map


def test_the_map_names_every_room_and_nothing_else():
    named = set(re.findall(r"^\| `([\w/]+)/` \|", section("The map of the house"), re.M))
    assert named, "the map is a table of folders"
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "l2e_min").rglob("__init__.py")}
    inner = {name for name in packages if name.count("/") > 2}  # such as the mini GLUE's, inside its room
    assert named == (packages - inner) | {"book", "book/_tools", "data", "tests"}


def room(name: str) -> int:
    """0 for the method, 1 for the lab, 2 for what shows."""
    return 2 if name.startswith("l2e_min.show") else int(name.startswith("l2e_min.lab"))


def test_imports_point_one_way():
    wrong = []
    for path in sorted((ROOT / "l2e_min").rglob("*.py")):
        here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if path.name == "__main__.py":
            continue  # the door: it opens the command line
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            bad = [name for name in names if name.startswith("l2e_min") and room(name) > here]
            wrong += [f"{path.relative_to(ROOT)}, line {node.lineno}: imports {name}" for name in bad]
    assert wrong == []


def test_commands_and_files_that_it_names_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"\bmake ([a-z-]+)", TEXT)) <= set(targets)
    for name in re.findall(r"`((?:book|data|tests|l2e_min)/[\w/.-]+\.\w+)`", TEXT):
        assert "NN_name" in name or (ROOT / name).is_file(), name


# --- the recipes


@pytest.mark.slow
def test_a_claim(copy):
    last = yaml.safe_load((ROOT / "data" / "claims.yml").read_text())["claims"][-1]["id"]
    new = f"{last[0]}{int(last[1:]) + 1:02}"
    path = copy.folder / "data" / "claims.yml"
    path.write_text(
        path.read_text()
        + f"""
- id: {new}
  statement: A claim of somebody else can be put to the test.
  source: this book
  where: nowhere yet
  published: []
  test: >-
    Somebody measures a number on five seeds and says before the run what would speak for the claim and what against it.
  measures:
    a_number: What was measured, in words.
  rule: {{measure: a_number, interval_above: 0}}
  minimum_seeds: 5
  chapter: 02_monosemantic_scale
"""
    )
    number = int(last[1:])
    copy.change("tests/test_claims.py", f"range(1, {number + 1})]", f"range(1, {number + 2})]")
    assert f"{new}  … not yet" in copy.python("-m", "l2e_min", "claims")
    assert "interval above 0" in " ".join(copy.python("-m", "l2e_min", "claims", "--id", new).split())
    copy.pytest("tests/test_claims.py", "-k", "every_claim or complete or either_way or too_few")
    recorded = copy.python(
        "-c",
        "from l2e_min.lab.ledger import claims as c; found = {'a_number': c.Measurement(1, 0.5, 1.5, 5)}\n"
        f"c.record('{new}', found, profile='quick', chapter='02_monosemantic_scale'); print(c.table('{new}'))",
    )
    assert f"{new}  ✓ reproduced, 5 seeds" in recorded
    assert copy.touched() == files_of("A claim")


@pytest.mark.slow
def test_a_measure(copy):
    name = "l2e_min/lab/study/measures.py"
    copy.change(
        name,
        '        "ks": ks.mean().item(),\n',
        '        "ks": ks.mean().item(),\n        "ks_median": ks.median().item(),\n',
    )
    copy.change(name, '    "ks_low": "', '    "ks_median": "the same, median",\n    "ks_low": "')
    with open(copy.folder / "tests" / "test_study_measures.py", "a") as file:
        file.write(
            '\n\ndef test_the_median(planted):\n    *_, m = planted\n    assert m["ks_null"] < m["ks_median"] < 1\n'
        )
    copy.pytest("tests/test_study_measures.py", "-k", "explained or median or planted_neurons")
    assert copy.touched() == files_of("A measure")


@pytest.mark.slow
def test_a_form_of_inhibition(copy, tmp_path):
    form = "root_ms"  # |z - mean| / S
    copy.change("l2e_min/inhibition.py", '"invariant_log_ms")\n', f'"invariant_log_ms", "{form}")\n')
    copy.change(
        "l2e_min/inhibition.py",
        "    else:\n        each = d2.clamp_min(tiny).log()",
        f'    elif form == "{form}":\n'
        "        each = (d2.clamp_min(tiny) / torch.where(mask, var.detach().clamp_min(tiny), 1)).sqrt()\n"
        "    else:\n        each = d2.clamp_min(tiny).log()",
    )
    copy.change(
        "tests/reference.py",
        "                terms.append(\n",
        f'                if form == "{form}":\n'
        "                    terms.append(abs(z[i, j] - mean[j]) / math.sqrt(var[j]))\n"
        "                    continue\n"
        "                terms.append(\n",
    )
    copy.change(
        "l2e_min/lab/training/method_choice.py", '    "ms": "ms",\n', f'    "ms": "ms",\n    "{form}": "{form}",\n'
    )
    assert form in copy.pytest("tests/test_inhibition.py", "-k", "penalty or finite or constants", "-vv")
    (words := tmp_path / "words").mkdir()
    for i in range(40):
        (words / f"{i}.txt").write_text(" ".join(f"the neuron {i} returns {i * j}" for j in range(60)))
    out = tmp_path / "run"
    options = "--size 16x2 --steps 30 --batch 4 --context 16 --vocabulary 300 --weight 0.1 --device cpu --quiet"
    copy.python(
        "-m", "l2e_min", "pretrain", "--method", form, "--text", str(words), "--out", str(out), *options.split()
    )
    assert (out / "model" / "model.safetensors").is_file()
    assert copy.touched() == files_of("A form of inhibition")


@pytest.mark.slow
def test_a_chapter(copy):
    source = copy.folder / "book" / f"{NAME}.py"
    source.write_text(
        "# %% [markdown]\n# # 99 A trial\n#\n# **Question.** Can a chapter be added?\n\n"
        "# %%\nfrom l2e_min.show import explorer, figure, new_figure\n\n\n"
        "def draw(height):\n    fig, ax = new_figure()\n    ax.bar([0], [height])\n    return fig\n\n\n"
        'figure(draw(3), alt="One bar.")\n\n'
        '# %%\nexplorer(draw, {"height": [1, 2]}, title="A bar")\n'
    )
    toc = copy.folder / "book" / "_toc.yml"
    place = re.findall(r"^  - file: \d\d_\w+\n", toc.read_text(), re.M)[-1]
    copy.change("book/_toc.yml", place, f"{place}  - file: {NAME}\n")
    assert NAME in copy.python("book/_tools/first_cell.py", NAME)
    assert "done" in copy.python("book/_tools/execute.py", NAME)
    assert (copy.folder / "book" / f"{NAME}.ipynb").is_file()
    said = copy.python(
        "-c",
        "import sys; sys.path.insert(0, 'book/_tools'); import check; from pathlib import Path\n"
        f"print(check.__file__, check.problems(Path('book/{NAME}.py').resolve(), Path('book/{NAME}.ipynb').resolve()))",
    )
    assert said.split() == [str(copy.folder / "book" / "_tools" / "check.py"), "[]"]
    copy.pytest("tests/test_book.py", "tests/test_first_cell.py", "-k", NAME)
    assert {file["file"] for file in yaml.safe_load(toc.read_text())["chapters"]} >= {NAME}
    assert copy.touched() == files_of("A chapter")
