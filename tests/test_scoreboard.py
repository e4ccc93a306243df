"""The scoreboard: margins agree with verdicts, figure and cards show what is on record, links lead to cells."""

import importlib
import json
import math
import re
import shlex
import sys

import numpy as np
import pytest
from scipy import stats

from l2e_min.lab.cli import _parser
from l2e_min.lab.ledger import claims
from l2e_min.lab.ledger.claims import Measurement
from l2e_min.lab.ledger.margins import MOST_SEEDS, bounds, leaning, margin, margins, seeds_to_decide
from l2e_min.lab.ledger.verdicts import judge, measures_of
from l2e_min.lab.paths import DATA, ROOT
from l2e_min.show import figure
from l2e_min.show.scoreboard import LOOK, Scoreboard, by_verdict, describe_scoreboard, draw_scoreboard

ROWS = claims.table(folder=DATA / "results").rows
MEASURED = [row for row in ROWS if row[1] is not None]
sys.path.insert(0, str(ROOT / "book" / "_tools"))

import claim_anchors  # noqa: E402

# --- margins


@pytest.mark.parametrize(
    ("kind", "limit", "low", "high", "expected"),
    [
        ("interval_above", 0, 1, 3, 2),
        ("interval_above", 0, -1, 3, 0.5),
        ("interval_below", 0, 1, 3, -2),
        ("interval_below", 5, 1, 3, 3),
        ("interval_within", [0, 10], 1, 3, 2),
        ("interval_within", [0, 10], 8, 12, 0),
        ("interval_within", [0, 10], 12, 14, -3),
        ("interval_above", 1, 1, 1, 0),
        ("interval_above", 0, 1, 1, math.inf),
        ("interval_below", 0, 1, 1, -math.inf),
    ],
)
def test_margin(kind, limit, low, high, expected):
    # The estimate is not the centre: a bootstrap's interval is lopsided, and only the interval decides.
    assert margin(Measurement(low + 0.1 * (high - low), low, high, 3), kind, limit) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "limit", "value", "sign"),
    [
        ("value_at_most", 1, 1, 1),
        ("value_at_most", 1, 2, -1),
        ("value_at_least", 1, 1, 1),
        ("value_at_least", 1, 0, -1),
        ("value_within", [0, 1], 0, 1),
        ("value_within", [0, 1], 2, -1),
    ],
)
def test_exact_statements_have_no_distance(kind, limit, value, sign):
    assert margin(Measurement.exact(value), kind, limit) == sign * math.inf


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row[0].id)
def test_a_margin_says_what_the_rule_says(row):
    claim, result, verdict = row
    assert [bound[0] for bound, _ in margins(claim, result)] == [f.measure for f in verdict.findings]
    for (bound, value), finding in zip(margins(claim, result), verdict.findings, strict=True):
        assert ("holds" if value > 1 else "refuted" if value < -1 else "open") == finding.outcome, bound


def test_every_bound_of_every_rule():
    for claim, _, _ in ROWS:
        assert {name for name, *_ in bounds(claim.rule)} == set(measures_of(claim.rule))


@pytest.mark.parametrize(("mean", "spread"), [(0.3, 1.0), (-0.5, 1.0), (0.2, 1.5)])
def test_seeds_to_decide(mean, spread):
    x = np.random.default_rng(0).standard_normal(5)
    x = mean + spread * (x - x.mean()) / x.std(ddof=1)
    measured = Measurement.over_seeds(x.tolist())
    found = seeds_to_decide(measured, "interval_above", 0)
    half = {n: stats.t.ppf(0.975, n - 1) * spread / math.sqrt(n) for n in (found - 1, found)}
    assert half[found] < abs(mean) <= half[found - 1]


def test_seeds_to_decide_where_no_number_will_do():
    assert seeds_to_decide(Measurement(1e-9, -1, 1, 3), "interval_above", 0) == MOST_SEEDS + 1
    assert seeds_to_decide(Measurement(2, 1, 3, 3), "interval_above", 0) is None, "decided"
    assert seeds_to_decide(Measurement(0.5, -1, 2, 1), "interval_above", 0) is None, "one model"


def test_leaning_is_the_verdict_of_the_centres():
    for claim, result, verdict in MEASURED:
        if verdict.status in ("reproduced", "not reproduced"):
            assert leaning(claim, result) == verdict.status
        names = {measure for measure, kind, _ in bounds(claim.rule) if kind.startswith("interval")}
        narrow = {
            n: m if n not in names else Measurement((m.low + m.high) / 2, *[(m.low + m.high) / 2] * 2, m.seeds)
            for n, m in result.measurements.items()
        }
        outcome = {"holds": "reproduced", "refuted": "not reproduced", "open": "inconclusive"}
        assert leaning(claim, result) == outcome[judge(claim.rule, narrow)[0]]


# --- the figure and the cards


def test_the_figure_in_words_counts_what_the_ledger_holds():
    text = describe_scoreboard(ROWS)
    for status in LOOK:
        here = [claim.id for claim, _, verdict in ROWS if verdict.status == status]
        if here:
            assert f"{status.capitalize()}, {len(here)}: {', '.join(here)}." in text
    outcomes = [finding.outcome for _, _, verdict in ROWS for finding in verdict.findings]
    assert f"{outcomes.count('holds')} of {len(outcomes)} bounds hold" in text


def test_the_figure_has_a_line_a_claim_and_a_mark_a_bound():
    fig = draw_scoreboard(ROWS)
    (ax,) = fig.axes
    assert sorted(label.get_text()[:3] for label in ax.get_yticklabels()) == sorted(claim.id for claim, _, _ in ROWS)
    marks = [line for line in ax.lines if line.get_marker() in {mark for _, mark in LOOK.values() if mark}]
    assert len(marks) == sum(len(verdict.findings) for _, _, verdict in ROWS)
    assert figure(fig, alt=describe_scoreboard(ROWS)).size[0] > 600


def test_groups_leave_nobody_out():
    assert sum(len(found) for _, found in by_verdict(ROWS)) == len(ROWS)
    assert by_verdict([]) == []


def test_a_claim_under_a_changed_rule_is_shown():
    claim, result, _ = next(row for row in MEASURED if row[0].id == "C01")
    stale = claims.Result(**(vars(result) | {"rule": "another"}))
    rows = [(claim, stale, claims.verdict(claim, stale))]
    assert describe_scoreboard(rows).startswith("1 claims, a line each, grouped by verdict. Not yet, 1: C01.")
    assert draw_scoreboard(rows).axes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].id)
def test_a_card(row):
    claim, result, verdict = row
    card = Scoreboard((row,))._repr_html_()
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", card))
    assert f"{claim.id} " in text and verdict.status in text
    for item in claim.published:
        assert str(item["value"]).replace("&", "&amp;") in text
    if result is not None:
        assert f"profile {result.profile}" in text
        assert all(name in text for name in result.measurements)


def test_cards_escape_what_is_written():
    claim, result, verdict = MEASURED[0]
    noted = claims.Result(**(vars(result) | {"notes": "<script>x</script>"}))
    assert "<script>" not in Scoreboard(((claim, noted, verdict),))._repr_html_()


def test_cards_link_to_cells_that_the_page_names():
    """The page's extension and the cards find the same cells."""
    cells_of = {}
    for claim, result, _ in MEASURED:
        source = (ROOT / "book" / f"{claim.chapter}.py").read_text()
        cells = cells_of.setdefault(claim.chapter, [c for c in source.split("# %%") if "[markdown]" not in c[:20]])
        named = [cell for cell in cells if claim.id in claim_anchors.RECORDED.findall(cell)]
        link = f'href="{claim.chapter}.html#{claim_anchors.anchor(claim.id)}"'
        assert (link in Scoreboard(((claim, result, claims.verdict(claim, result)),))._repr_html_()) == bool(named)


def test_the_extension_names_a_cell():
    from docutils import nodes
    from docutils.utils import new_document

    doctree = new_document("chapter")
    for text in ("x = 1", 'y = claims.record(\n    "C01", x)', "claims.record('B02', y)"):
        cell = nodes.container(classes=["cell"])
        cell += nodes.literal_block(text, text)
        doctree += cell
    claim_anchors.on_page(None, doctree)
    assert [cell["ids"] for cell in doctree.children] == [[], ["measured-c01"], ["measured-b02"]]


# --- the two pages


@pytest.mark.parametrize("page", ["09_scoreboard", "14_change_our_mind"])
def test_the_page_is_in_step_with_the_record(page):
    """Strict: every printed verdict is that of today's record. Run `make chapters NAMES=...` after a new result."""
    notebook = json.loads((ROOT / "book" / f"{page}.ipynb").read_text())
    text = "".join("".join(out.get("text", ())) for cell in notebook["cells"] for out in cell.get("outputs", ()))
    if page == "09_scoreboard":
        for status, found in by_verdict(ROWS):
            assert f"{len(found):2} {status:15} {' '.join(claim.id for claim, _, _ in found)}" in text
    for claim, _, verdict in ROWS:
        if page == "14_change_our_mind" and verdict.status in ("reproduced", "not reproduced", "inconclusive"):
            assert f"\n{claim.id} " in "\n" + text


def commands() -> list[str]:
    source = (ROOT / "book" / "14_change_our_mind.py").read_text()
    blocks = re.findall(r"# ```\n(.*?)# ```", source, re.DOTALL)
    text = "".join(blocks).replace("\\\n# ", " ")
    return [line.removeprefix("# ").strip() for line in text.splitlines()]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_page_can_be_given(command):
    words = shlex.split(command)
    if words[0] == "l2e":
        _parser(words[1]).parse_args(words[1:])
    else:
        assert words[:2] == ["python", "-m"]
        assert importlib.util.find_spec(words[2])


def test_claims_without_a_chapter_lead_to_the_page():
    for claim, result, _ in ROWS:
        if not (ROOT / "book" / f"{claim.chapter}.py").is_file():
            assert result is None, f"{claim.id} was measured by a chapter that is not there"
    source = (ROOT / "book" / "14_change_our_mind.py").read_text()
    assert all(claim.id in source for claim, _, _ in ROWS if claim.chapter == "14_change_our_mind")
