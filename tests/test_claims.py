"""The ledger: the shipped file, what a chapter records, and the verdicts."""

import json
import re

import pytest

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger import claims as ledger
from l2e_min.lab.ledger.claims import Measurement
from l2e_min.lab.ledger.measurement import Measurement as Defined
from l2e_min.lab.ledger.verdicts import expand, judge, measures_of, words
from l2e_min.lab.paths import results_folder

CLAIMS = ledger.load_claims()
BY_ID = {claim.id: claim for claim in CLAIMS}


@pytest.fixture(autouse=True)
def fresh_results(tmp_path, monkeypatch):
    """Every test writes into a folder of its own."""
    monkeypatch.setenv("L2E_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def m(low: float, high: float, seeds: int = 9) -> Measurement:
    return Measurement((low + high) / 2, low, high, seeds)


def c01(exponent: Measurement | None = None, error: float = 1e-15) -> dict[str, Measurement]:
    return {
        "max_relative_error_mean": Measurement.exact(error),
        "max_relative_error_var": Measurement.exact(error),
        "cost_exponent": exponent or m(-0.02, 0.03, seeds=1),
    }


def record_c01(**changes) -> ledger.Result:
    return ledger.record("C01", c01() | changes, profile="quick", chapter="02_monosemantic_scale")


# --- the shipped file


def test_every_claim_of_the_method_is_there_in_order():
    assert [claim.id for claim in CLAIMS] == [f"C{i:02}" for i in range(1, 23)] + [f"B{i:02}" for i in range(1, 6)]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_complete(claim):
    assert claim.source in {"W24", "W25", "Y24", "this book"}
    assert (claim.source == "this book") == claim.id.startswith("B")
    assert len(claim.test) > 80, "the test is described in words before the run"
    assert measures_of(claim.rule), "a rule needs measurements"
    assert all(len(text) > 10 for text in claim.measures.values())


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_rule_can_come_out_either_way(claim):
    """For every claim some measurements lead to "reproduced" and others to "not reproduced"."""
    sides = {}
    for name, side in (("reproduced", "holds"), ("not reproduced", "refuted")):
        measurements = {}
        for bound in bounds(claim.rule):
            measurements[bound["measure"]] = on_side(bound, side)
        sides[name] = verdict_of(claim, measurements).status
    assert sides == {name: name for name in sides}


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.minimum_seeds > 1], ids=lambda claim: claim.id)
def test_too_few_seeds_decide_nothing(claim):
    measurements = {bound["measure"]: on_side(bound, "holds", seeds=1) for bound in bounds(claim.rule)}
    verdict = verdict_of(claim, measurements)
    assert verdict.status == "inconclusive"
    assert f"1 seed, the rule asks for {claim.minimum_seeds}" in verdict.reason


def test_figures_of_the_paper_are_kept_as_printed():
    figures = {(claim.id, item["what"]): item["value"] for claim in CLAIMS for item in claim.published}
    assert figures["C11", "GLUE average MEmeL-Tune"] == 80.5
    assert figures["C10", "decrease ratio naive (b)"] == -0.044
    assert figures["C15", "MEmeL (sort), 70M / 2.8B"] == "9.7 / 27.0"
    assert figures["C18", "MMLU 0-shot 2.8B, Pythia / L2E"] == ".2306 / .2534"
    assert figures["C13", "B-MSE original / MEmeL / MEmeL-Tune"] == "309.96 / 309.94 / 298.16"


def test_shipped_results_were_recorded_under_todays_rules():
    for claim_id, result in ledger.results().items():
        assert result.rule == BY_ID[claim_id].fingerprint, f"the rule of {claim_id} changed after it was measured"
        assert ledger.verdict(BY_ID[claim_id], result).status != "not yet"


# --- rules

DATASETS = {"dataset": ["a", "b"]}


@pytest.mark.parametrize(
    ("bound", "low", "high", "outcome"),
    [
        ({"interval_above": 0}, 0.1, 0.3, "holds"),
        ({"interval_above": 0}, -0.3, -0.1, "refuted"),
        ({"interval_above": 0}, -0.1, 0.3, "open"),
        ({"interval_above": 0}, 0.0, 0.3, "open"),
        ({"interval_below": 0}, -0.3, -0.1, "holds"),
        ({"interval_below": 0}, 0.1, 0.3, "refuted"),
        ({"interval_below": 0}, -0.1, 0.1, "open"),
        ({"interval_within": [-1, 1]}, -1.0, 1.0, "holds"),
        ({"interval_within": [-1, 1]}, 1.1, 3.0, "refuted"),
        ({"interval_within": [-1, 1]}, -3.0, -1.1, "refuted"),
        ({"interval_within": [-1, 1]}, 0.0, 1.1, "open"),
        ({"value_at_most": 2}, 2.0, 2.0, "holds"),
        ({"value_at_most": 2}, 2.1, 2.1, "refuted"),
        ({"value_at_least": 2}, 2.0, 2.0, "holds"),
        ({"value_at_least": 2}, 1.9, 1.9, "refuted"),
        ({"value_within": [1, 2]}, 1.0, 1.0, "holds"),
        ({"value_within": [1, 2]}, 0.9, 0.9, "refuted"),
    ],
)
def test_one_bound(bound, low, high, outcome):
    assert judge(expand({"measure": "x", **bound}, {}), {"x": m(low, high)})[0] == outcome


SIDE = {"holds": m(1, 2), "open": m(-1, 2), "refuted": m(-2, -1)}


@pytest.mark.parametrize(
    ("first", "second", "all_", "any_", "each"),
    [
        ("holds", "holds", "holds", "holds", "holds"),
        ("holds", "open", "open", "holds", "open"),
        ("holds", "refuted", "refuted", "holds", "open"),
        ("open", "open", "open", "open", "open"),
        ("open", "refuted", "refuted", "open", "open"),
        ("refuted", "refuted", "refuted", "refuted", "refuted"),
    ],
)
def test_joining_two_parts(first, second, all_, any_, each):
    for a, b in ((first, second), (second, first)):
        measured = {"x_a": SIDE[a], "x_b": SIDE[b]}
        parts = [{"measure": "x_a", "interval_above": 0}, {"measure": "x_b", "interval_above": 0}]
        panel = {"each": "dataset", "rule": {"measure": "x_{dataset}", "interval_above": 0}}
        for rule, wanted in (({"all": parts}, all_), ({"any": parts}, any_), (panel, each)):
            assert judge(expand(rule, DATASETS), measured)[0] == wanted


def test_panels_in_panels_and_their_words():
    rule = {
        "each": "dataset",
        "rule": {"each": "form", "rule": {"all": [{"measure": "{form}_of_{dataset}", "interval_below": 0.5}]}},
    }
    panels = DATASETS | {"form": ["raw", "scaled"]}
    assert measures_of(expand(rule, panels)) == ["raw_of_a", "scaled_of_a", "raw_of_b", "scaled_of_b"]
    assert "for each dataset (a, b)" in words(rule, panels)
    assert "interval below 0.5" in words(rule, panels)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (None, "a rule is a mapping"),
        ({"measure": "x"}, "needs one bound"),
        ({"measure": "x", "interval_over": 0}, "needs one bound"),
        ({"measure": "x", "interval_above": 0, "interval_below": 1}, "needs one bound"),
        ({"measure": "x", "value_at_most": "1e-9"}, "one number"),
        ({"measure": "x", "value_at_most": True}, "one number"),
        ({"measure": "x", "interval_above": float("nan")}, "one number"),
        ({"measure": "x", "interval_within": 0}, "a <= b"),
        ({"measure": "x", "interval_within": [1, 0]}, "a <= b"),
        ({"all": []}, "needs a list"),
        ({"all": [], "any": []}, "a rule has"),
        ({"each": "planet", "rule": {"measure": "x", "interval_above": 0}}, "unknown panel"),
        ({"each": "dataset", "rule": {"measure": "x", "interval_above": 0}}, "in the name of a measure"),
    ],
)
def test_a_bad_rule_is_refused(rule, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        expand(rule, DATASETS)


# --- measurements


@pytest.mark.parametrize(
    "numbers", [(float("nan"), 0, 1, 1), (0, float("-inf"), 1, 1), (0.5, 1, 0, 1), (0, 0, 0, 0), (0, 0, 0, 1.5)]
)
def test_a_bad_measurement_is_refused(numbers):
    with pytest.raises(ValueError, match=r"expected|finite"):
        Measurement(*numbers)


def test_interval_over_seeds_is_students():
    measured = Defined.over_seeds([1.0, 2.0, 3.0], unit="nats")
    assert measured.value == pytest.approx(2.0)
    assert measured.high - 2.0 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # t table, 2 degrees of freedom
    assert (measured.seeds, measured.unit) == (3, "nats")
    with pytest.raises(ValueError, match="at least two"):
        Measurement.over_seeds([1.0])


# --- recording and verdicts


def test_what_is_recorded_is_read_back(fresh_results):
    written = record_c01(extra=Measurement(1.23456789, 1.0, 2.0, 3, n=7, unit="nats"))
    assert ledger.results(fresh_results) == {"C01": written}
    assert written.measurements["extra"] == Measurement(1.23457, 1.0, 2.0, 3, n=7, unit="nats")
    assert ledger.verdict(BY_ID["C01"], written).status == "reproduced"


def test_the_file_is_stable_and_says_nothing_of_the_machine(fresh_results):
    import getpass
    import platform
    from pathlib import Path

    record_c01()
    first = (fresh_results / "C01.json").read_bytes()
    record_c01()
    assert (fresh_results / "C01.json").read_bytes() == first
    assert [path.name for path in fresh_results.iterdir()] == ["C01.json"], "no temporary file is left"
    text = first.decode()
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert str(fresh_results) not in text
    assert set(json.loads(text)["versions"]) == {"python", "l2e-min", "torch", "transformers", "numpy"}
    assert "+" not in json.loads(text)["versions"]["torch"]
    node, user = platform.node(), getpass.getuser()
    assert not [word for word in (node, user) if len(word) > 4 and word in text]


def test_a_failed_write_leaves_the_old_file(fresh_results, monkeypatch):
    record_c01()
    before = (fresh_results / "C01.json").read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        record_c01(cost_exponent=m(0.5, 0.6))
    assert (fresh_results / "C01.json").read_bytes() == before
    assert len(list(fresh_results.iterdir())) == 1


def test_a_missing_measurement_is_an_error():
    with pytest.raises(ValueError, match=r"C01 needs the measurement.*cost_exponent"):
        ledger.record(
            "C01",
            {k: v for k, v in c01().items() if k != "cost_exponent"},
            profile="quick",
            chapter="02_monosemantic_scale",
        )


def test_wrong_names_are_errors():
    with pytest.raises(UserError, match="unknown claim 'C99'; known are C01"):
        ledger.record("C99", {}, profile="quick", chapter="02_monosemantic_scale")
    with pytest.raises(ValueError, match="unknown profile 'fast'"):
        ledger.record("C01", c01(), profile="fast", chapter="02_monosemantic_scale")
    with pytest.raises(ValueError, match="belongs to the chapter 02_monosemantic_scale"):
        ledger.record("C01", c01(), profile="quick", chapter="03_scale_study")


@pytest.mark.parametrize(
    ("measurements", "status"),
    [
        (c01(), "reproduced"),
        (c01(error=1e-6), "not reproduced"),
        (c01(m(0.9, 1.1)), "not reproduced"),
        (c01(m(0.0, 0.2)), "inconclusive"),
    ],
)
def test_verdicts_on_c01(measurements, status):
    assert verdict_of(BY_ID["C01"], measurements).status == status


def test_c02_is_inconclusive_when_data_sets_disagree():
    excess = {"excess_natural_language": m(0.2, 0.5), "excess_code_language": m(-0.5, -0.2)}
    verdict = verdict_of(BY_ID["C02"], excess | {"excess_data_subset": m(0.2, 0.5)})
    assert verdict.status == "inconclusive"
    assert verdict.reason == "refuted: excess_code_language; holds: excess_natural_language, excess_data_subset"


def test_c03_needs_more_than_an_untrained_model_has():
    names = [f"_{name}" for name in ("natural_language", "code_language", "data_subset")]
    gap = {f"log_ratio{name}": m(0.5, 0.9) for name in names}
    assert verdict_of(BY_ID["C03"], gap | {f"log_ratio_minus_untrained{n}": m(0.1, 0.2) for n in names}).status == (
        "reproduced"
    )
    assert verdict_of(BY_ID["C03"], gap | {f"log_ratio_minus_untrained{n}": m(-0.2, -0.1) for n in names}).status == (
        "not reproduced"
    )


def test_a_result_under_another_rule_does_not_count(fresh_results):
    record_c01()
    path = fresh_results / "C01.json"
    path.write_text(path.read_text().replace(BY_ID["C01"].fingerprint, "0" * 12))
    verdict = ledger.verdict(BY_ID["C01"], ledger.results(fresh_results)["C01"])
    assert (verdict.status, "rule has changed" in verdict.reason) == ("not yet", True)


def test_no_measurement_is_not_yet():
    assert ledger.verdict(BY_ID["C22"], None).status == "not yet"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"measurements": {"x": {"value": NaN}}}', "{", '"x"'])
def test_a_broken_result_is_named(fresh_results, text):
    fresh_results.mkdir()
    (fresh_results / "C01.json").write_text(text)
    with pytest.raises(UserError, match=r"C01\.json is not a recorded result"):
        ledger.results(fresh_results)


# --- the table


def test_the_table_has_text_and_html_without_numbers():
    record_c01()
    table = ledger.table("C01", "C04", folder=results_folder())
    assert repr(table).splitlines()[0] == "C01  ✓ reproduced, 1 seed, quick"
    assert "C04  … not yet" in repr(table)
    assert "0.005" not in repr(table) + table._repr_html_()
    assert "✓ reproduced" in table._repr_html_() and "<b>C04</b>" in table._repr_html_()
    assert max(map(len, repr(table).splitlines())) <= 110


def test_the_last_digits_do_not_show():
    record_c01(cost_exponent=m(-0.0201, 0.0301))
    first = ledger.table("C01"), ledger.table("C01", numbers=True)
    record_c01(cost_exponent=m(-0.0202, 0.0300))
    second = ledger.table("C01"), ledger.table("C01", numbers=True)
    assert list(map(repr, first)) == list(map(repr, second))
    assert "cost_exponent 0.005 [-0.020, 0.030]" in " ".join(repr(first[1]).split())
    assert "max_relative_error_mean 1.0e-15" in repr(first[1])


def test_html_lists_the_numbers_below_the_table():
    record_c01(cost_exponent=m(-0.02, 0.03))
    html = ledger.table("C01", numbers=True)._repr_html_()
    table, below = html.split("</table>")
    assert "<li>cost_exponent 0.005 [-0.020, 0.030] (interval within -0.1 to 0.1: holds)</li>" in below
    assert "cost_exponent 0.005" not in table and below.count("<li>") == 3


def test_html_is_escaped(monkeypatch):
    result = record_c01()
    claim = ledger.Claim(**{**vars(BY_ID["C01"]), "statement": "a < b & <script>"})
    from l2e_min.lab.ledger.claims_table import ClaimsTable

    html = ClaimsTable(((claim, result, ledger.verdict(claim, result)),))._repr_html_()
    assert "a &lt; b &amp; &lt;script&gt;" in html and "<script>" not in html


def test_the_table_takes_a_folder_and_all_claims(tmp_path):
    record_c01()
    (tmp_path / "empty").mkdir()
    assert {row["verdict"] for row in ledger.table(folder=tmp_path / "empty").data()} == {"not yet"}
    assert len(ledger.table().data()) == len(CLAIMS)
    with pytest.raises(UserError, match="unknown claim"):
        ledger.table("C1")


# --- a broken claims file


GOOD = """
claims:
- {id: C01, statement: s, source: W24, where: w, published: [], test: t, measures: {x: an x},
   rule: {measure: x, interval_above: 0}, chapter: 02_a}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("claims:", "claims: [", "not valid YAML"),
        ("claims:", "things:", "needs a list under 'claims'"),
        ("statement: s, ", "", r"claim C01: fields missing: \['statement'\]"),
        ("statement: s", "statement: 3", "statement is 3"),
        ("statement: s", "colour: red, statement: s", r"fields unknown: \['colour'\]"),
        ("id: C01", "id: D01", "id is 'D01'"),
        ("chapter: 02_a", "chapter: two", "chapter is 'two'"),
        ("interval_above", "above", "needs one bound"),
        ("{x: an x}", "{y: a y}", "which 'measures' does not explain"),
        ("{x: an x}", "3", "claim C01"),
        ("published: []", "published: [{value: 3}]", "a published figure has"),
        ("published: []", "published: 3", "claim C01"),
        ("chapter: 02_a", "minimum_seeds: 0, chapter: 02_a", "minimum_seeds is 0"),
    ],
)
def test_a_broken_claims_file_is_one_clear_line(tmp_path, old, new, message):
    path = tmp_path / "claims.yml"
    path.write_text(GOOD)
    assert ledger.load_claims(path)[0].id == "C01"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        ledger.load_claims(path)
    assert "\n" not in str(caught.value)


def test_a_claim_twice_and_no_file(tmp_path):
    path = tmp_path / "claims.yml"
    path.write_text(GOOD + GOOD.split("claims:")[1].lstrip("\n"))
    with pytest.raises(UserError, match="more than one claim C01"):
        ledger.load_claims(path)
    with pytest.raises(UserError, match="cannot read the claims"):
        ledger.load_claims(tmp_path / "none.yml")


# --- helpers


def bounds(rule: dict) -> list[dict]:
    """All bounds of an expanded rule."""
    if "measure" in rule:
        return [rule]
    ((_, parts),) = rule.items()
    return [bound for part in parts for bound in bounds(part)]


def on_side(bound: dict, side: str, seeds: int = 9) -> Measurement:
    """A measurement for which a bound holds or is refuted."""
    ((kind, limit),) = [(key, value) for key, value in bound.items() if key != "measure"]
    low, high = limit if isinstance(limit, list) else (limit, limit)
    if kind.endswith("_within"):
        value = (low + high) / 2 if side == "holds" else high + 1
    else:
        upward = kind in ("interval_above", "value_at_least")
        value = low + (1 if upward == (side == "holds") else -1)
    return Measurement(value, value, value, seeds)


def verdict_of(claim: ledger.Claim, measurements: dict[str, Measurement]) -> ledger.Verdict:
    """The verdict on these measurements, by way of the file."""
    return ledger.verdict(claim, ledger.record(claim.id, measurements, profile="quick", chapter=claim.chapter))
