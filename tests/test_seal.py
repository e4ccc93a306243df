"""Seals: a recorded number that is older than its code is found, and harmless changes are let be."""

import json
import textwrap

import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger import seal as seals
from l2e_min.lab.ledger.code_slice import Code
from l2e_min.lab.ledger.meaning import meaning
from l2e_min.lab.ledger.seal import MAKERS, Seals, main
from l2e_min.lab.ledger.statements import statements
from l2e_min.lab.paths import DATA, ROOT

CHAPTER = """
# %%
import numpy as np
from l2e_min import show
from l2e_min.lab import tools
from l2e_min.lab.ledger import claims
from l2e_min.lab.maths import mean
from l2e_min.show import draw

x = np.arange(4)
unused = tools.other(x)
for name in ("a", "b"):
    print(name)
found = {}
for name in ("c", "d"):
    y = mean(x)
    found[name] = y
draw(found)
name = "e"
print(name)
_ = claims.record("C01", found, profile="quick", chapter="01_x")
x = 2 * x
_ = claims.record("B01", {"late": tools.used(x)}, profile="quick", chapter="01_x")
"""

FILES = {
    "book/01_x.py": CHAPTER,
    "l2e_min/__init__.py": "",
    "l2e_min/show/__init__.py": "def draw(x):\n    return x\n",
    "l2e_min/lab/__init__.py": "",
    "l2e_min/lab/ledger/__init__.py": "",
    "l2e_min/lab/ledger/claims.py": "def record(*a, **b):\n    return a\n",
    "l2e_min/lab/maths.py": '''
        """Means."""
        from l2e_min.lab.tools import SCALE, unused
        OFFSET = 0

        def mean(x: list) -> float:
            """The mean."""
            if not len(x):
                raise ValueError("no numbers")
            return total(x) / len(x) * SCALE + OFFSET

        def total(x):
            from l2e_min.lab.deep import add
            return add(x)

        def median(x):
            return sorted(x)[len(x) // 2]
        ''',
    "l2e_min/lab/tools.py": """
        SCALE = 1.0

        def used(x):
            return x.sum()

        def other(x):
            return x

        def unused(x):
            return x
        """,
    "l2e_min/lab/deep.py": "def add(x):\n    return sum(x)\n",
}


@pytest.fixture
def checkout(tmp_path):
    """A small package with a chapter of two results."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (tmp_path / "data" / "results" / "figures").mkdir(parents=True)
    return tmp_path


def replace(checkout, name, old, new):
    path = checkout / name
    text = path.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new))


def of(checkout, claim="C01"):
    return Seals(checkout, checkout / "data").of_result("01_x", claim)


# --- the shipped numbers


@pytest.fixture(scope="module")
def shipped():
    """The checkout's seals; every file is read once for all tests."""
    return Seals()


@pytest.mark.slow
def test_no_recorded_number_is_older_than_its_code(shipped):
    problems = shipped.problems()
    advice = (
        "\nMeasure again (`make chapters NAMES=...`, or the record's command); where the change cannot move a number, "
        'say so: python -m l2e_min.lab.ledger.seal NAME --because "..."'
    )
    assert not problems, "\n".join(f"{name}: {text}" for name, text in problems.items()) + advice


def test_a_seal_by_hand_keeps_its_reason():
    for path in (DATA / "results").glob("[BC][0-9][0-9].json"):
        content = json.loads(path.read_text())
        assert content["made_by"] and content.get("sealed", "the run") != "", path.name
    for name, entry in json.loads((DATA / "results" / seals.SEALS).read_text()).items():
        assert name in MAKERS and entry["sealed"].strip()


@pytest.mark.parametrize("name", MAKERS)
def test_every_maker_is_there(shipped, name):
    assert shipped.of_record(name)


@pytest.mark.parametrize(
    ("claim", "chapter", "needed", "not_needed"),
    [
        ("C01", "02_monosemantic_scale", {"l2e_min/moments"}, {"l2e_min/inhibitor", "l2e_min/retrieval"}),
        (
            "C04",
            "03_scale_study",
            {"data/results/scale_study.jsonl", "l2e_min/lab/study/trends"},
            {"l2e_min/inhibitor"},
        ),
        (
            "C11",
            "06_finetuning",
            {"data/results/finetuning", "l2e_min/lab/finetuning/table"},
            {"l2e_min/lab/study/run"},
        ),
        ("C16", "05_inhibition", {"data/results/toy_pretraining.json", "l2e_min/inhibition"}, {"l2e_min/lab/probing"}),
    ],
)
def test_what_a_real_result_depends_on(shipped, claim, chapter, needed, not_needed):
    made_by = set(shipped.of_result(chapter, claim))
    assert needed | {f"book/{chapter}"} <= made_by
    assert not made_by & not_needed
    assert not {name for name in made_by if "/show/" in name}


# --- what changes a seal


def test_what_a_result_depends_on(checkout):
    made_by = of(checkout)
    assert set(made_by) == {"book/01_x", "l2e_min/lab/maths", "l2e_min/lab/deep", "l2e_min/lab/tools"}
    assert set(of(checkout, "B01")) == {"book/01_x", "l2e_min/lab/tools"}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("book/01_x.py", "np.arange(4)", "np.arange(5)"),
        ("book/01_x.py", "found = {}", "found = {'z': 1}"),
        ("book/01_x.py", "    y = mean(x)", "    y = 2 * mean(x)"),
        ("book/01_x.py", "draw(found)", "found.update(a=1)"),
        ("book/01_x.py", "draw(found)", "del found['c']"),
        ("book/01_x.py", "draw(found)", "for v in [1]:\n    found['c'] = v"),
        ("book/01_x.py", "found = {}", "found = {}\nnp.random.shuffle(x)"),
        ("book/01_x.py", "import numpy as np", "import jax.numpy as np"),
        ("l2e_min/lab/maths.py", "OFFSET = 0", "OFFSET = 1"),
        ("l2e_min/lab/maths.py", "/ len(x)", "/ (len(x) - 1)"),
        ("l2e_min/lab/maths.py", "if not len(x)", "if len(x) < 2"),
        ("l2e_min/lab/tools.py", "SCALE = 1.0", "SCALE = 1"),
        ("l2e_min/lab/deep.py", "sum(x)", "max(x)"),
    ],
)
def test_a_change_that_could_move_the_number(checkout, name, old, new):
    before = of(checkout)
    replace(checkout, name, old, new)
    after = of(checkout)
    assert seals.difference(before, after) == f"changed since: {name.removesuffix('.py')}"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("book/01_x.py", "x = np.arange(4)", "# four numbers\nx = np.arange(\n    4\n)"),
        ("book/01_x.py", "print(name)\n_ =", "print(name, 'again')\n_ ="),
        ("book/01_x.py", 'for name in ("a", "b")', 'for name in ("a", "z")'),
        ("book/01_x.py", "unused = tools.other(x)", "unused = tools.unused(x)"),
        ("book/01_x.py", "draw(found)", "draw(found, colour=1)"),
        ("book/01_x.py", "x = 2 * x", "x = 3 * x"),
        ("book/01_x.py", "import numpy as np", "import os\nimport numpy as np"),
        ("l2e_min/lab/maths.py", '"""The mean."""', '"""The arithmetic mean."""'),
        ("l2e_min/lab/maths.py", '"no numbers"', '"no numbers; give some"'),
        ("l2e_min/lab/maths.py", "x: list) -> float", "x) -> int"),
        ("l2e_min/lab/maths.py", "sorted(x)[", "sorted(x)[0 * "),
        ("l2e_min/lab/maths.py", "import SCALE, unused", "import unused, other, SCALE"),
        ("l2e_min/lab/tools.py", "return x.sum()", "return 2 * x.sum()"),
        ("l2e_min/show/__init__.py", "return x", "return None"),
        ("l2e_min/lab/ledger/claims.py", "return a", "return b"),
    ],
)
def test_a_change_that_cannot(checkout, name, old, new):
    before = of(checkout)
    replace(checkout, name, old, new)
    assert seals.difference(before, of(checkout)) == ""


def test_what_comes_after_the_recording_does_not_matter_to_it(checkout):
    first, second = of(checkout), of(checkout, "B01")
    replace(checkout, "book/01_x.py", "x = 2 * x", "x = 3 * x")
    assert of(checkout) == first
    assert of(checkout, "B01") != second


def test_a_claim_recorded_in_a_loop(checkout):
    replace(checkout, "book/01_x.py", 'claims.record("C01", found', 'claims.record("C0" + "1", found')
    before = of(checkout)
    replace(checkout, "book/01_x.py", "np.arange(4)", "np.arange(5)")
    assert of(checkout) != before


def test_public_names_lead_to_their_modules(checkout):
    home = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from l2e_min.lab.deep import add\n"
    (checkout / "l2e_min/__init__.py").write_text(home)
    replace(checkout, "book/01_x.py", "x = np.arange(4)", "from l2e_min import add\nx = np.arange(add([4]))")
    replace(checkout, "l2e_min/lab/maths.py", "return add(x)", "return 0")
    assert "l2e_min/lab/deep" in of(checkout)


def test_a_method_that_nobody_calls(checkout):
    deep = """
        class Adder:
            start = 0

            def __init__(self, x):
                self.x = x

            def add(self):
                return self.start + sum(self._parts())

            def _parts(self):
                return self.x

            def report(self):
                return str(self.x)

        def add(x):
            return Adder(x).add()
        """
    (checkout / "l2e_min/lab/deep.py").write_text(textwrap.dedent(deep))
    before = of(checkout)
    replace(
        checkout, "l2e_min/lab/deep.py", "return str(self.x)", "from l2e_min.lab.tools import other; return other(1)"
    )
    assert seals.difference(before, of(checkout)) == ""
    for old, new in (
        ("return self.x\n", "return 2 * self.x\n"),
        ("start = 0", "start = 1"),
        ("self.x = x", "self.x = -x"),
    ):
        replace(checkout, "l2e_min/lab/deep.py", old, new)
        assert seals.difference(before, of(checkout)) == "changed since: l2e_min/lab/deep"
        replace(checkout, "l2e_min/lab/deep.py", new, old)
    replace(checkout, "l2e_min/lab/deep.py", "class Adder:", "class Adder(dict):")  # whose methods others may call
    before = of(checkout)
    replace(checkout, "l2e_min/lab/deep.py", "return other(1)", "return other(2)")
    assert seals.difference(before, of(checkout)) == "changed since: l2e_min/lab/deep"


def test_meaning_is_the_same_for_every_layout():
    one, other = (statements(s)[0].node for s in ("f(a, 'x', b=[1,\n 2])", 'f(a, "x",   b=[1, 2]) # why'))
    assert meaning(one) == meaning(other)
    assert meaning(one) != meaning(statements("f(a, 'x', b=[1, 3])")[0].node)


def test_an_unknown_function_has_no_slice(checkout):
    with pytest.raises(LookupError, match=r"l2e_min\.lab\.deep has no gone"):
        Code(checkout).behind_function("l2e_min.lab.deep", "gone")


# --- sealing


def write_result(checkout, claim="C01", made_by=None):
    content = {"id": claim, "chapter": "01_x"} | ({"made_by": made_by} if made_by else {})
    path = checkout / "data" / "results" / f"{claim}.json"
    path.write_text(json.dumps(content))
    return path


def problems(checkout):
    return Seals(checkout, checkout / "data").problems()


def test_a_result_without_seal_and_an_old_one(checkout):
    write_result(checkout)
    assert problems(checkout) == {"C01": "was never sealed"}
    write_result(checkout, made_by=of(checkout))
    assert problems(checkout) == {}
    replace(checkout, "l2e_min/lab/deep.py", "sum(x)", "max(x)")
    assert problems(checkout) == {"C01": "changed since: l2e_min/lab/deep"}


def test_sealing_by_hand(checkout):
    path = write_result(checkout)
    Seals(checkout, checkout / "data").seal("C01", "only a rename")
    assert json.loads(path.read_text())["sealed"] == "only a rename"
    assert problems(checkout) == {}
    with pytest.raises(UserError, match="say why"):
        Seals(checkout, checkout / "data").seal("C01", " ")


def test_records(checkout, monkeypatch):
    monkeypatch.setattr(seals, "MAKERS", {"runs": ("l2e_min.lab.deep", "add")})
    replace(checkout, "book/01_x.py", "x = np.arange(4)", 'x = np.loadtxt(DATA / "results" / "runs")')
    folder = checkout / "data" / "results" / "runs"
    folder.mkdir()
    (folder / "a.jsonl").write_text("1\n")
    assert problems(checkout) == {"runs": "was never sealed"}
    Seals(checkout, checkout / "data").seal("runs", "recorded before there were seals")
    write_result(checkout, made_by=of(checkout))
    assert problems(checkout) == {}
    (folder / "a.jsonl").write_text("2\n")
    assert problems(checkout) == {
        "C01": "changed since: data/results/runs",
        "runs": "was made again and not sealed since",
    }
    Seals(checkout, checkout / "data").seal("runs", "made again")
    replace(checkout, "l2e_min/lab/deep.py", "sum(x)", "max(x)")
    assert problems(checkout)["runs"] == "changed since: l2e_min/lab/deep"
    (checkout / "data" / "results" / "stray.json").write_text("{}")
    assert "no maker is named" in problems(checkout)["stray.json"]


def test_bad_names():
    with pytest.raises(UserError, match="no record 'nothing'; known are bench_method"):
        Seals().of_record("nothing")


def test_the_command(monkeypatch, capsys, checkout):
    monkeypatch.setattr(seals, "ROOT", checkout)
    monkeypatch.setattr(seals, "Seals", lambda: Seals(checkout, checkout / "data"))
    write_result(checkout)
    assert main([]) == 1
    assert "C01: was never sealed" in capsys.readouterr().out
    assert main(["C01"]) == 1
    assert "say why" in capsys.readouterr().err
    assert main(["all", "--because", "recorded before there were seals"]) == 0
    assert main([]) == 0
    assert "every recorded number is sealed" in capsys.readouterr().out


def test_recording_seals(tmp_path, monkeypatch):
    from l2e_min.lab.ledger import claims
    from l2e_min.lab.ledger.claims import Measurement

    monkeypatch.setenv("L2E_RESULTS", str(tmp_path))
    measured = {
        name: Measurement.exact(0.0) for name in ("max_relative_error_mean", "max_relative_error_var", "cost_exponent")
    }
    result = claims.record("C01", measured, profile="quick", chapter="02_monosemantic_scale")
    assert result.made_by == Seals(ROOT).of_result("02_monosemantic_scale", "C01")
    assert result.sealed == ""
