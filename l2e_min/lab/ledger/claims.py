"""The claims ledger: what the papers say, what we measured, and the verdict that code draws from the two.

``data/claims.yml`` holds the claims and their rules (``verdicts.py`` beside this file says how a rule is read). A
chapter calls ``record`` with what it measured and prints ``table``; ``l2e claims`` lists everything.
"""

import json
import os
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from pathlib import Path

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger import verdicts
from l2e_min.lab.ledger.claims_file import Claim, find, load_claims
from l2e_min.lab.ledger.claims_table import ClaimsTable
from l2e_min.lab.ledger.measurement import Measurement, Result
from l2e_min.lab.ledger.seal import Seals
from l2e_min.lab.ledger.verdicts import Verdict
from l2e_min.lab.paths import DATA, results_folder
from l2e_min.lab.settings import PROFILES

__all__ = [
    "Claim",
    "Measurement",
    "Result",
    "Verdict",
    "find",
    "load_claims",
    "record",
    "results",
    "table",
    "verdict",
]

PACKAGES = ("l2e-min", "torch", "transformers", "numpy")
"""Packages whose versions a result carries: those that can change a number."""


def record(
    claim_id: str, measurements: Mapping[str, Measurement], *, profile: str, chapter: str, notes: str = ""
) -> Result:
    """Writes ``results_folder()/<id>.json`` and returns what stands in it.

    Every measurement that the claim's rule names must be there; more are welcome. Numbers are kept to six significant
    digits, and sealed with a fingerprint of the code that led to them (``seal.py``). The file holds no time, path or
    host, so the same numbers give the same bytes; it appears whole or not at all. ValueError: a measurement is missing,
    or profile or chapter is not the claim's. UserError: unknown claim.
    """
    claim = find(claim_id)
    missing = [name for name in verdicts.measures_of(claim.rule) if name not in measurements]
    if missing:
        raise ValueError(f"{claim_id} needs the measurement(s) {', '.join(missing)}; got {', '.join(measurements)}")
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; expected one of {', '.join(PROFILES)}")
    if chapter != claim.chapter:
        raise ValueError(f"{claim_id} belongs to the chapter {claim.chapter}; got {chapter!r}")
    content = {
        "id": claim_id,
        "chapter": chapter,
        "profile": profile,
        "notes": notes,
        "rule": claim.fingerprint,
        "measurements": {name: _to_json(m) for name, m in sorted(measurements.items())},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "made_by": _seals().of_result(chapter, claim_id),
    }
    path = results_folder() / f"{claim_id}.json"
    _write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return _read(path)


def results(folder: Path | None = None) -> dict[str, Result]:
    """Recorded results by claim, from ``folder`` (default: shipped ``data/results``). UserError on a broken file."""
    folder = Path(folder or DATA / "results")
    return {result.id: result for result in map(_read, sorted(folder.glob("[BC][0-9][0-9].json")))}


def verdict(claim: Claim, result: Result | None) -> Verdict:
    """The verdict on a claim. "not yet": no result, or one recorded under a rule that has changed since."""
    if result is None:
        return Verdict("not yet", f"no measurement; chapter {claim.chapter}")
    if result.rule != claim.fingerprint:
        return Verdict("not yet", f"the rule has changed since the measurement; run chapter {claim.chapter} again")
    outcome, findings = verdicts.judge(claim.rule, result.measurements)
    parts = []
    for label in ("refuted", "open", "holds"):
        names = [finding.measure for finding in findings if finding.outcome == label]
        if names:
            parts.append(f"{label}: {', '.join(names)}")
    reason = "; ".join(parts)
    sampled = verdicts.sampled_measures(claim.rule)
    seeds = min((result.measurements[name].seeds for name in sampled), default=claim.minimum_seeds)
    if seeds < claim.minimum_seeds:
        few = f"{seeds} seed{'s' if seeds > 1 else ''}, the rule asks for {claim.minimum_seeds}"
        return Verdict("inconclusive", f"{few}; {reason}", findings)
    return Verdict(verdicts.STATUS[outcome], reason, findings)


def table(*ids: str, folder: Path | None = None, numbers: bool = False) -> ClaimsTable:
    """Rows of the ledger to show in a chapter; no ids means all claims.

    Results come from ``folder``; by default from ``results_folder()``, where the chapter has just recorded them, and
    from the shipped ones for claims that are not there. Text and HTML hold verdicts, seeds and rules; with
    ``numbers=True`` also the measured values to two significant digits: only for numbers that a machine cannot change.
    """
    claims = load_claims()
    chosen = [find(claim_id, claims) for claim_id in ids] if ids else claims
    found = results(folder) if folder is not None else results() | results(results_folder())
    rows = [(claim, found.get(claim.id), verdict(claim, found.get(claim.id))) for claim in chosen]
    return ClaimsTable(tuple(rows), numbers=numbers)


@cache
def _seals() -> Seals:
    return Seals()  # what a chapter has imported does not change while it runs; so its files are read once


def _version(package: str) -> str:
    return metadata.version(package).partition("+")[0]  # 2.13.0 and 2.13.0+cpu are the same source


def _to_json(m: Measurement) -> dict:
    rounded = {name: float(f"{getattr(m, name):.6g}") for name in ("value", "low", "high")}
    return {name: value for name, value in (asdict(m) | rounded).items() if value is not None}


def _write(path: Path, text: str) -> None:
    """Writes a file so that a reader finds the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)  # mkstemp gives 600; the ledger is for everybody
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read(path: Path) -> Result:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measurements = {name: Measurement(**m) for name, m in content.pop("measurements").items()}
        result = Result(**content, measurements=measurements)
        if result.id != path.stem or not measurements:
            raise ValueError(f"holds the claim {result.id!r} with {len(measurements)} measurements")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path.name} is not a recorded result: {error}; run its chapter again") from error
    return result
