"""How rows of the claims ledger look: plain text, HTML and plain data."""

from dataclasses import asdict, dataclass
from html import escape
from math import floor, log10
from textwrap import fill
from typing import Any

from l2e_min.lab.ledger.claims_file import Claim
from l2e_min.lab.ledger.measurement import Measurement, Result
from l2e_min.lab.ledger.verdicts import Finding, Verdict

SIGN = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "≈", "not yet": "…"}
"""A sign beside the word, so that a verdict is found at a glance and without colour."""

Row = tuple[Claim, Result | None, Verdict]


@dataclass(frozen=True, repr=False)
class ClaimsTable:
    """Claims with results and verdicts; shows itself as text and as HTML, both the same on every machine."""

    rows: tuple[Row, ...]
    numbers: bool = False

    def __repr__(self) -> str:
        blocks = []
        for claim, result, verdict in self.rows:
            seeds = f", {_seeds(result)}" if result else ""
            blocks.append(f"{claim.id}  {SIGN[verdict.status]} {verdict.status}{seeds}")
            for text in (claim.statement, f"rule: {claim.rule_in_words}", self._reason(result, verdict)):
                blocks.append(
                    fill(text, 110, initial_indent="     ", subsequent_indent="     ", break_long_words=False)
                )
        return "\n".join(blocks)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{name}</th>' for name in ("claim", "verdict", "rule fixed before the run"))
        body = []
        for claim, result, verdict in self.rows:
            source = escape(f"{claim.source}, {claim.where}")
            cells = (
                f"<b>{claim.id}</b> {escape(claim.statement)} <small>({source})</small>",
                f"<b>{SIGN[verdict.status]} {verdict.status}</b><br><small>{_seeds(result)}</small>",
                escape(claim.rule_in_words)
                + ("" if self._findings(result, verdict) else f"<br><small>{escape(verdict.reason)}</small>"),
            )
            top = "text-align:left;vertical-align:top;padding:0.4em 0.6em 0.4em 0;"
            words, short = "white-space:normal;overflow-wrap:anywhere;min-width:11em", "white-space:nowrap"
            row = (
                f'<td style="{top}{kind}">{cell}</td>' for cell, kind in zip(cells, (words, short, words), strict=True)
            )
            body.append(f"<tr>{''.join(row)}</tr>")
        return (
            '<div style="overflow-x:auto"><table class="claims">'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
            + "".join(self._measured_html(*row) for row in self.rows)
        )

    def _measured_html(self, claim: Claim, result: Result | None, verdict: Verdict) -> str:
        """The numbers as a list below the table: a third column would be a finger wide on a phone."""
        items = "".join(f"<li>{escape(words)}</li>" for words in self._findings(result, verdict))
        style = "font-size:85%;overflow-wrap:anywhere;margin-top:0"
        return f'<small><b>{claim.id}</b>, measured:</small><ul style="{style}">{items}</ul>' if items else ""

    def data(self) -> list[dict[str, Any]]:
        """One plain dictionary a claim, ready for JSON."""
        return [row_data(*row) for row in self.rows]

    def _reason(self, result: Result | None, verdict: Verdict) -> str:
        return "; ".join(self._findings(result, verdict)) or verdict.reason

    def _findings(self, result: Result | None, verdict: Verdict) -> list[str]:
        if not self.numbers or result is None:
            return []
        return [finding_words(finding, result.measurements[finding.measure]) for finding in verdict.findings]


def row_data(claim: Claim, result: Result | None, verdict: Verdict) -> dict[str, Any]:
    """Everything about one claim as a plain dictionary."""
    kept = ("id", "statement", "source", "where", "published", "test", "measures", "minimum_seeds", "chapter")
    about = {name: getattr(claim, name) for name in kept} | {"rule": claim.rule, "rule_in_words": claim.rule_in_words}
    return about | {"verdict": verdict.status, "reason": verdict.reason, "result": asdict(result) if result else None}


def finding_words(finding: Finding, m: Measurement) -> str:
    """One bound and what was measured, and what became of it."""
    return f"{finding.measure} {measured(m)} ({finding.bound}: {finding.outcome})"


def measured(m: Measurement) -> str:
    """Value and interval, rounded so that the interval's width (or an exact value) keeps two significant digits."""
    unit = f" {m.unit}" if m.unit else ""
    size = floor(log10((m.high - m.low) or abs(m.value) or 1.0))
    texts = [f"{x:.1e}" if not -5 < size < 6 else _rounded(x, 1 - size) for x in (m.value, m.low, m.high)]
    return f"{texts[0]}{unit}" if m.low == m.high else f"{texts[0]} [{texts[1]}, {texts[2]}]{unit}"


def _rounded(x: float, decimals: int) -> str:
    return f"{round(x, decimals) + 0.0:.{max(0, decimals)}f}"  # + 0.0 turns -0.0 into 0.0


def _seeds(result: Result | None) -> str:
    return "" if result is None else f"{result.seeds} seed{'s' if result.seeds > 1 else ''}, {result.profile}"
