"""The whole ledger at a glance: a figure of every bound of every rule, and a card for every claim."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from l2e_min.lab.ledger.claims_table import SIGN, Row, finding_words, measured
from l2e_min.lab.ledger.margins import margins
from l2e_min.lab.paths import ROOT
from l2e_min.show.style import COLOURS, GRID, WIDTH, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK = {
    "reproduced": (COLOURS[0], "o"),
    "not reproduced": (COLOURS[1], "D"),
    "inconclusive": ("#6e7781", "s"),
    "not yet": ("#a3527f", ""),
}
"""Colour and mark of a verdict; the colours read on white and on black, and the sign beside them needs none."""

EDGE = 30.0
"""Where a margin that is larger, or infinite, is drawn."""

ROW = 0.235  # inches


def count(rows: Sequence[Row], status: str) -> int:
    """How many claims have a verdict."""
    return sum(verdict.status == status for _, _, verdict in rows)


def by_verdict(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """The claims of each verdict, in the order of ``SIGN``; verdicts that nothing has are left out."""
    groups = [(status, [row for row in rows if row[2].status == status]) for status in SIGN]
    return [(status, found) for status, found in groups if found]


def draw_scoreboard(rows: Sequence[Row]) -> "Figure":
    """One line a claim, one mark for each bound of its rule, at the margin of what was measured (``margins.py``)."""
    lines: list[Row | str] = []
    for status, found in by_verdict(rows):
        lines += [status, *found]
    fig, ax = new_figure(width=WIDTH, height=ROW * len(lines) + 1.1)
    ax.axvspan(-1, 1, color=GRID, alpha=0.55, lw=0)
    for y, line in enumerate(lines):
        if isinstance(line, str):
            ax.axhline(y, color=GRID, lw=0.8)
            title = f"{line}: {count(rows, line)}"
            ax.text(0, y, title, ha="center", va="center", color=LOOK[line][0], weight="bold", backgroundcolor="white")
        else:
            _draw_claim(ax, y, *line)
    named = [(y, line) for y, line in enumerate(lines) if not isinstance(line, str)]
    ax.set_yticks([y for y, _ in named], [f"{claim.id} {SIGN[verdict.status]}" for _, (claim, _, verdict) in named])
    for text, (_, (_, _, verdict)) in zip(ax.get_yticklabels(), named, strict=True):
        text.set_color(LOOK[verdict.status][0])
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.8)
    ax.set_xticks([-10, -1, 0, 1, 10], ["-10", "-1", "0", "1", "10"])
    ax.minorticks_off()
    ax.set(xlim=(-1.6 * EDGE, 1.6 * EDGE), ylim=(len(lines) - 0.4, -0.6))
    ax.set_xlabel("distance from the rule's bound,\nin half widths of the 95 % interval")
    for x, word in ((-6, "refuted"), (0, "open"), (6, "holds")):
        ax.text(x, 1.005, word, ha="center", va="bottom", transform=ax.get_xaxis_transform())
    ax.grid(axis="y", visible=False)
    return fig


def _draw_claim(ax, y: float, claim, result, verdict) -> None:
    colour, mark = LOOK[verdict.status]
    if result is None or not verdict.findings:
        ax.text(0, y, "not measured" if result is None else "rule changed", ha="center", va="center", fontsize=9.5)
        return
    found = margins(claim, result)
    for number, ((_, kind, _), value) in enumerate(found):
        shift = 0.5 * ((number + 0.5) / len(found) - 0.5)  # so that marks of one claim do not hide each other
        exact = kind.startswith("value_")
        place = math.copysign(min(abs(value), EDGE), value)
        face = "white" if exact else colour
        ax.plot(place, y + shift, mark, ms=4.5, color=colour, markerfacecolor=face, markeredgewidth=1.0, alpha=0.85)


def describe_scoreboard(rows: Sequence[Row]) -> str:
    """The figure in words, for those who do not see it."""
    parts = [f"{len(rows)} claims, a line each, grouped by verdict."]
    for status, found in by_verdict(rows):
        parts.append(f"{status.capitalize()}, {len(found)}: {', '.join(claim.id for claim, _, _ in found)}.")
    sides = [value for claim, result, verdict in rows if verdict.findings for _, value in margins(claim, result)]
    holds, refuted = sum(v > 1 for v in sides), sum(v < -1 for v in sides)
    parts.append(
        "Marks show how far each measured interval lies from its rule's bound, in half widths: "
        f"{holds} of {len(sides)} bounds hold, {refuted} are refuted, {len(sides) - holds - refuted} are open."
    )
    return " ".join(parts)


@dataclass(frozen=True, repr=False)
class Scoreboard:
    """A card for every claim: verdict, statement, where it was measured; the paper's figures and ours to unfold."""

    rows: tuple[Row, ...]
    book: Path = ROOT / "book"

    def __repr__(self) -> str:
        return "\n".join(f"{claim.id}  {SIGN[verdict.status]} {verdict.status}" for claim, _, verdict in self.rows)

    def _repr_html_(self) -> str:
        return "".join(self._card(*row) for row in self.rows)

    def _card(self, claim, result, verdict) -> str:
        behind = "not measured" if result is None else f"{_many(result.seeds, 'seed')}, profile {result.profile}"
        published = [f"{item['what']}: {item['value']}{_unit(item)}" for item in claim.published]
        lists = _list("The paper", published or ["no figure we could quote"], claim.source != "this book")
        lists += _list("Ours", _ours(result, verdict), result is not None)
        title = "paper and ours" if claim.source != "this book" else "ours"
        colour = LOOK[verdict.status][0]
        return (
            f'<div style="border-left:0.35em solid {colour};padding:0 0 0 0.8em;margin:1.2em 0;overflow-wrap:anywhere">'
            f'<b id="{claim.id.lower()}">{claim.id}</b> <b>{SIGN[verdict.status]} {verdict.status}</b> '
            f"<small>({escape(behind)}; {self._link(claim, result)})</small><br>{escape(claim.statement)} "
            f"<small>({escape(f'{claim.source}, {claim.where}')})</small>"
            f"<br><small><b>Rule:</b> {escape(claim.rule_in_words)}<br><b>Why:</b> {escape(verdict.reason)}</small>"
            f'<details><summary>{title}</summary><div style="font-size:85%">{lists}</div></details></div>'
        )

    def _link(self, claim, result) -> str:
        """To the cell that recorded the claim (the book's page gives it an address), or to the page."""
        page = self.book / f"{claim.chapter}.py"
        if not page.is_file():
            return escape(claim.chapter)
        source = page.read_text(encoding="utf-8")
        cell = re.search(rf"claims\.record\(\s*[\"']{claim.id}[\"']", source)
        place = f"#measured-{claim.id.lower()}" if result is not None and cell else ""
        words = "the cell that measured it" if place else "its page"
        return f'<a href="{claim.chapter}.html{place}">{words}</a>'


def _ours(result, verdict) -> list[str]:
    """What was measured, first what the rule asks for; then notes and a seal that was set by hand."""
    if result is None:
        return []
    judged = {finding.measure: finding for finding in verdict.findings}
    more = [name for name in result.measurements if name not in judged]
    lines = [finding_words(finding, result.measurements[name]) for name, finding in judged.items()]
    lines += [f"{name} {measured(result.measurements[name])} (reported)" for name in more]
    lines += [result.notes] if result.notes else []
    return lines + ([f"sealed by hand: {result.sealed}"] if result.sealed else [])


def _list(title: str, lines: list[str], wanted: bool) -> str:
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f"<b>{title}</b><ul style='margin-top:0'>{items}</ul>" if wanted else ""


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _unit(item: dict) -> str:
    return f" {item['unit']}" if "unit" in item else ""
