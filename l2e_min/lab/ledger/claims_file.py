"""Reading ``data/claims.yml``: claims as the papers make them, each with the rule by which it is judged."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2e_min.lab.errors import UserError
from l2e_min.lab.ledger import verdicts
from l2e_min.lab.paths import DATA


@dataclass(frozen=True)
class Claim:
    """One row of the ledger, as ``data/claims.yml`` states it."""

    id: str
    """C01 ... C22 (papers) or B01 ... (this book)."""
    statement: str
    """The claim in our own words."""
    source: str
    """Key of the paper, or "this book"."""
    where: str
    """Section, table or figure."""
    published: tuple[dict, ...]
    """The paper's own figures: what, value and, where it has one, unit."""
    test: str
    """How it is tested at our scale, written before the runs."""
    measures: dict[str, str]
    """Measurements and what they are; panels such as {dataset} are not written out."""
    rule: dict
    """The rule, panels written out."""
    rule_in_words: str
    """The rule as a reader sees it."""
    minimum_seeds: int
    """Fewest seeds behind an interval that may decide."""
    chapter: str
    """Chapter that measures it, such as 02_monosemantic_scale."""

    @property
    def fingerprint(self) -> str:
        """Changes when what decides (rule, minimum_seeds) changes; rewording does not change it."""
        text = json.dumps([self.rule, self.minimum_seeds], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_claims(path: Path | None = None) -> list[Claim]:
    """All claims in the order of the file (default ``data/claims.yml``). UserError says what is wrong with the file."""
    import yaml

    path = Path(path or DATA / "claims.yml")
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one reads the ledger ten times faster
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise UserError(f"cannot read the claims: {error.strerror}: {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("claims"), list) or not content["claims"]:
        raise UserError(f"{path.name} needs a list under 'claims'")
    panels = content.get("panels") or {}
    claims: list[Claim] = []
    for number, entry in enumerate(content["claims"], start=1):
        name = entry.get("id") if isinstance(entry, dict) else None
        try:
            claims.append(_claim(entry, panels))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path.name}: claim {name or f'number {number}'}: {error}") from error
    ids = [claim.id for claim in claims]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise UserError(f"{path.name}: more than one claim {', '.join(twice)}")
    return claims


def find(claim_id: str, claims: Sequence[Claim] | None = None) -> Claim:
    """The claim with this id. UserError lists the known ids."""
    claims = load_claims() if claims is None else claims
    for claim in claims:
        if claim.id == claim_id:
            return claim
    raise UserError(f"unknown claim {claim_id!r}; known are {', '.join(claim.id for claim in claims)}")


def _claim(entry: Any, panels: Mapping[str, Sequence[str]]) -> Claim:
    allowed = {
        "id",
        "statement",
        "source",
        "where",
        "published",
        "test",
        "measures",
        "rule",
        "minimum_seeds",
        "chapter",
    }
    if not isinstance(entry, dict):
        raise ValueError(f"a claim is a mapping; got {entry!r}")
    missing, unknown = allowed - {"minimum_seeds"} - set(entry), set(entry) - allowed
    if missing or unknown:
        raise ValueError(f"fields missing: {sorted(missing)}; fields unknown: {sorted(map(str, unknown))}")
    for name, pattern in {"id": r"[BC]\d\d", "chapter": r"\d\d_[a-z0-9_]+"}.items():
        if not re.fullmatch(pattern, str(entry[name])):
            raise ValueError(f"{name} is {entry[name]!r}; expected the form {pattern}")
    for name in ("statement", "source", "where", "test"):
        if not isinstance(entry[name], str) or not entry[name].strip():
            raise ValueError(f"{name} is {entry[name]!r}; expected text")
    seeds = entry.get("minimum_seeds", 1)
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise ValueError(f"minimum_seeds is {seeds!r}; expected 1 or more")
    for item in entry["published"]:
        if not {"what", "value"} <= set(item) <= {"what", "value", "unit"}:
            raise ValueError(f"a published figure has what, value and perhaps unit; got {item!r}")
    rule = verdicts.expand(entry["rule"], panels)
    undefined = [name for name in verdicts.measures_of(entry["rule"]) if name not in entry["measures"]]
    if undefined:
        raise ValueError(f"the rule names {', '.join(undefined)}, which 'measures' does not explain")
    return Claim(
        **{name: entry[name] for name in ("id", "source", "where", "measures", "chapter")},
        **{name: " ".join(entry[name].split()) for name in ("statement", "test")},
        published=tuple(entry["published"]),
        rule=rule,
        rule_in_words=verdicts.words(entry["rule"], panels),
        minimum_seeds=seeds,
    )
