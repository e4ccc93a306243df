"""``l2e claims``: the ledger on the terminal."""

import argparse
import json
import shutil
import textwrap
from collections import Counter
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger import claims as ledger
from l2e_min.lab.ledger.claims_table import SIGN, Row, finding_words, measured, row_data

HELP = "list every claim of the papers with what we measured and the verdict"
EXAMPLE = "l2e claims --id C01"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --id, --json and --results."""
    parser.add_argument("--id", metavar="ID", help="one claim in detail, such as C01")
    parser.add_argument("--json", action="store_true", help="everything as JSON, for other programs")
    parser.add_argument(
        "--results",
        metavar="DIR",
        type=Path,
        help="take the measurements from this folder, such as _build/results (default: the shipped data/results)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the claims and returns 0. UserError: an unknown id, a missing folder, a broken file."""
    if arguments.results is not None and not arguments.results.is_dir():
        raise UserError(f"--results {arguments.results} is not a folder")
    claims = ledger.load_claims()
    if arguments.id is not None:
        claims = [ledger.find(arguments.id.upper(), claims)]
    found = ledger.results(arguments.results)
    rows: list[Row] = [(claim, found.get(claim.id), ledger.verdict(claim, found.get(claim.id))) for claim in claims]
    if arguments.json:
        print(json.dumps([row_data(*row) for row in rows], indent=2, ensure_ascii=False))
    elif arguments.id is not None:
        print(detail(*rows[0], width=_width()))
    else:
        print(listing(rows, width=_width()))
    return 0


def listing(rows: list[Row], width: int) -> str:
    """A line a claim, cut to ``width`` columns, and the totals."""
    lines = []
    for claim, _, verdict in rows:
        start = f"{claim.id}  {SIGN[verdict.status]} {verdict.status:<15}"
        lines.append(f"{start} {_cut(claim.statement, max(20, width - len(start) - 1))}")
    totals = Counter(verdict.status for _, _, verdict in rows)
    lines.append("")
    lines.append(f"{len(rows)} claims: " + ", ".join(f"{totals[status]} {status}" for status in SIGN))
    return "\n".join(lines)


def detail(claim: ledger.Claim, result: ledger.Result | None, verdict: ledger.Verdict, width: int) -> str:
    """All that is known about one claim."""
    parts = [(f"{claim.id} ({claim.source}, {claim.where})", claim.statement), ("test", claim.test)]
    parts.append(("rule, fixed before the run", claim.rule_in_words))
    if claim.minimum_seeds > 1:
        parts.append(("seeds", f"an interval over fewer than {claim.minimum_seeds} seeds decides nothing"))
    published = [f"{item['what']}: {item['value']}{_unit(item)}" for item in claim.published]
    parts.append(("published", published or "no figure we could quote"))
    if result is None:
        parts.append(("ours", "not measured yet"))
    else:
        judged = {finding.measure: finding for finding in verdict.findings}
        ours = [
            finding_words(judged[name], m) if name in judged else f"{name} {measured(m)}"
            for name, m in result.measurements.items()
        ]
        parts.append((f"ours ({result.seeds} seed(s), profile {result.profile})", ours))
        if result.notes:
            parts.append(("notes", result.notes))
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        parts.append(("measured with", f"{versions}; {result.machine}"))
    parts.append(("chapter", claim.chapter))
    parts.append(("verdict", f"{SIGN[verdict.status]} {verdict.status}: {verdict.reason}"))
    lines = []
    for title, body in parts:
        lines.append(title)
        for text in [body] if isinstance(body, str) else body:
            lines.append(textwrap.fill(text, width, initial_indent="  ", subsequent_indent="    "))
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _unit(item: dict) -> str:
    return f" {item['unit']}" if "unit" in item else ""


def _width() -> int:
    return max(40, shutil.get_terminal_size((100, 24)).columns)
