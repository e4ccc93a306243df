"""Equation to code: every quotation is found, in its symbol, and every place of the papers has one."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

from l2e_min.show import deviations, equations, equations_w24, equations_w25
from l2e_min.show.equations import Deviation, Equation, Quotation, Table

ROOT = Path(__file__).resolve().parents[1]
EQUATIONS = [*equations_w24.ALL, *equations_w25.ALL]
DEVIATIONS = [*deviations.METHOD, *deviations.MEASURING, *deviations.TRAINING]
ENTRIES = [*EQUATIONS, *DEVIATIONS]
NAMES = [f"{number}-{entry.symbol}" for number, entry in enumerate(ENTRIES)]

NEEDED = {
    "W24": {
        *("eq. for φ", "Lemma 3.2", "Algorithm 1", "Algorithm 2", "C.1", "C.2", "eq. 10", "eq. 11", "eq. 13", "E.3"),
        *("Lemma 3.3", "MEmeL-Tune", "places", "Table 4", "F.1"),
    },
    "W25": {"eq. 1", "eq. 2", "eq. 3", "eq. 4", "eq. 5", "4.2", "appendix A", "Mid-2", "3, Fig. 4"},
    "G23": {"sparse probing"},
}
"""Places of the papers that a reader may look up."""


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_the_line_holds_the_quotation_and_lies_in_the_symbol(entry):
    line = entry.line()
    lines = entry.path.read_text().splitlines()
    assert entry.snippet in lines[line - 1]
    assert [n for n, text in enumerate(lines, 1) if entry.snippet in text] == [line]
    module, _, name = entry.symbol.partition(":")
    found = importlib.import_module(f"l2e_min.{module}")
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    if inspect.isfunction(found) or inspect.isclass(found):
        body, first = inspect.getsourcelines(found)
        assert first <= line < first + len(body)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_the_chapter_has_the_section(entry):
    chapter, _, heading = entry.explained.partition("#")
    source = (ROOT / "book" / f"{chapter}.py").read_text()
    assert len(re.findall(rf"^# #+ {re.escape(heading)}$", source, re.M)) == 1, entry.explained


def test_slugs_are_those_of_the_page():
    base = pytest.importorskip("myst_parser.mdit_to_docutils.base")
    for heading in {entry.explained.partition("#")[2] for entry in ENTRIES}:
        assert equations.slug(heading) == base.default_slugify(heading)


def test_every_place_of_the_papers_is_there():
    for paper, places in NEEDED.items():
        found = " / ".join(e.place for e in EQUATIONS if e.paper == paper).replace(" and ", " / ").split(" / ")
        assert places <= set(found), places - set(found)


def test_every_choice_that_a_docstring_marks_is_listed():
    marked = {
        path.relative_to(ROOT / "l2e_min").with_suffix("").as_posix().replace("/", ".")
        for path in (ROOT / "l2e_min").rglob("*.py")
        if re.search(r"\bour\s+choice\b", path.read_text()) and path.name not in ("deviations.py", "report.py")
    }  # report.py: what it calls dead is a word of the report, no part of the method
    assert {"inhibition", "retrieval", "lab.probing", "lab.training.method_choice"} <= marked
    assert marked <= {entry.symbol.partition(":")[0] for entry in DEVIATIONS}


def test_deviations_name_their_paper_and_a_reason():
    for entry in DEVIATIONS:
        assert re.match(r"(W24|W25|G23|Lemma 3\.2)\b", entry.paper), entry.paper
        assert entry.ours.endswith((".", "`.")) and entry.why.endswith(".")


@pytest.mark.parametrize(
    "text, message",
    [
        ("def f():\n    return 2\n", "0 times"),
        ("def f():\n    return 1\n    return 1\n", "2 times"),
        ("def f():\n    pass\n\n\ndef g():\n    return 1\n", "line 6, outside of lines 1 to 2"),
        ("def g():\n    return 1\n", "no f"),
    ],
)
def test_a_stale_quotation_is_refused(tmp_path, monkeypatch, text, message):
    (tmp_path / "l2e_min").mkdir()
    (tmp_path / "l2e_min" / "part.py").write_text(text)
    monkeypatch.setattr(equations, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=message):
        Quotation("part:f", "return 1", "01_x#y").line()


def test_the_line_moves_with_the_code(tmp_path, monkeypatch):
    (tmp_path / "l2e_min" / "lab").mkdir(parents=True)
    source = tmp_path / "l2e_min" / "lab" / "part.py"
    monkeypatch.setattr(equations, "ROOT", tmp_path)
    entry = Quotation("lab.part:C.f", "return 1", "01_x#y")
    source.write_text("class C:\n    def f(self):\n        return 1\n")
    assert entry.line() == 3
    source.write_text("N = 5\n\n\nclass C:\n    n: int = 0\n\n    def f(self):\n        return 1\n")
    assert entry.line() == 8
    assert equations.extent(source.read_text(), "N") == (1, 1)
    assert equations.extent(source.read_text(), "C.n") == (5, 5)


@pytest.mark.parametrize("entries", [EQUATIONS, DEVIATIONS], ids=["equations", "deviations"])
def test_the_tables_are_whole(entries):
    at = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    lines = Table(entries)._repr_markdown_().splitlines()
    assert len(lines) == 2 + len(entries)
    for line, entry in zip(lines[2:], entries, strict=True):
        assert line.count("|") == 3, f"a cell of this row holds a bar: {line}"
        path = entry.path.relative_to(ROOT).as_posix()
        assert f"({at['url']}/blob/{at['branch']}/{path}#L{entry.line()})" in line
        assert line.count("$") % 2 == 0
        if isinstance(entry, Equation):
            assert entry.snippet in line and entry.formula in line
        else:
            assert isinstance(entry, Deviation) and entry.why in line
    assert not re.search(r"line \d", repr(Table(entries)))  # what the notebook's comparison reads
