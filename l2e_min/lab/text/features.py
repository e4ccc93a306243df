"""Feature datasets: short texts, each labelled with one feature (W25 section 3, after G23).

G23 and W25 use texts of natural languages, of programming languages and of subsets of the Pile. Here they are cut from
installed text (see `corpus`): files and phrases that are kept out of the training and validation text.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.text.corpus import load_corpus
from l2e_min.lab.text.document import Document
from l2e_min.lab.text.languages import LANGUAGES
from l2e_min.lab.text.sources import read_text

FEATURE_SETS = {
    "natural_language": LANGUAGES,
    "code_language": ("python", "cython", "c", "cpp", "javascript", "html", "css", "cmake", "latex"),
    "data_subset": ("docstrings", "manual", "readmes", "licences", "tables", "json", "python"),
}
"""The shipped feature datasets and their features, which are families of the installed text."""

PROSE = frozenset((*LANGUAGES, "docstrings", "manual", "readmes", "licences"))
"""Features whose rows may begin at any word. Code and tables begin at a line, as they would be read."""

LEAST_ROW, LEAST_INK = 16, 0.5  # bytes; share of characters that are not white space


@dataclass(frozen=True)
class FeatureDataset:
    """`texts[i]` has the feature `features[labels[i]]` and comes from `sources[i]`. labels: (n,) int64.

    Rows stand in label order, the rows of one label in a random order that the seed fixes. Rows of one file are alike:
    for a fair held-out estimate split by source, not by row.
    """

    name: str
    features: list[str]
    texts: list[str]
    labels: np.ndarray
    sources: list[str]

    def table(self) -> list[dict[str, object]]:
        """Rows to print: feature, rows, files they come from, the most rows from one file, and an example."""
        rows = []
        for label, feature in enumerate(self.features):
            members = np.flatnonzero(self.labels == label)
            files = Counter(self.sources[i] for i in members)
            most = max(files.values(), default=0)
            example = " ".join(self.texts[members[0]].split())[:60] if len(members) else ""
            rows.append({"feature": feature, "rows": len(members), "files": len(files), "most from one file": most,
                         "example": example})  # fmt: skip
        return rows


def load_features(name: str, rows_per_feature: int = 200, row_bytes: int = 128, seed: int = 0) -> FeatureDataset:
    """The feature dataset `name`, with the same number of rows for every feature.

    name: "natural_language" (10 features), "code_language" (9), "data_subset" (7), or a folder with one sub-folder of
    text files a label. rows_per_feature: rows of each feature. row_bytes: length of a row in UTF-8 bytes (a row may be
    up to three shorter, so that no character is cut). seed: which rows, and their order.
    No row repeats another or belongs to two features. Rows of the shipped sets share no 40 bytes with the installed
    training and validation text; rows of a folder may (see `overlap.overlapping`).
    Raises UserError for an unknown name, a folder with fewer than two labels, and a feature with too few rows.
    """
    if rows_per_feature < 2:
        raise UserError(f"rows_per_feature is {rows_per_feature}; at least 2 rows of each feature are needed")
    if row_bytes < LEAST_ROW:
        raise UserError(f"row_bytes is {row_bytes}; a row needs at least {LEAST_ROW} bytes")
    if name in FEATURE_SETS:
        corpus = load_corpus("installed")
        reserved, missing = corpus.reserved, corpus.missing
        documents = {family: [d for d in reserved if d.family == family] for family in FEATURE_SETS[name]}
        title = name
    else:
        documents, missing = _folder(name), ()
        title = Path(name).resolve().name
    features = list(documents)
    candidates = {feature: rows_of(documents[feature], row_bytes, feature in PROSE) for feature in features}
    if name not in FEATURE_SETS:
        candidates = _alone(candidates)
    texts, labels, sources = [], [], []
    for label, feature in enumerate(features):
        rows = candidates[feature]
        if len(rows) < rows_per_feature:
            raise UserError(
                f"{title}: the feature {feature!r} has {len(rows)} rows of {row_bytes} bytes, {rows_per_feature} are "
                f"asked for; ask for fewer or shorter rows, or "
                + (f"install what is absent here ({', '.join(missing)})" if missing else "give more text")
            )
        for text, source in spread(rows, rows_per_feature, np.random.default_rng([seed, label])):
            texts.append(text)
            labels.append(label)
            sources.append(source)
    return FeatureDataset(title, features, texts, np.array(labels, dtype=np.int64), sources)


def rows_of(documents: list[Document], row_bytes: int, prose: bool) -> list[tuple[str, str]]:
    """Cuts documents into rows that do not overlap: distinct (text, source) pairs, in order.

    A row begins at a line (`prose`: at a word), ends at a character, and is at least half ink.
    """
    rows: dict[str, str] = {}
    for document in documents:
        data = document.text.encode()
        start = 0
        while start + row_bytes <= len(data):
            row = data[start : start + row_bytes].decode(errors="ignore")
            ink = sum(not character.isspace() for character in row)
            if ink >= LEAST_INK * len(row):
                rows.setdefault(row, document.source)
                start = _next_start(data, start + len(row.encode()), prose)
            else:
                start = _next_start(data, start + 1, prose)
    return list(rows.items())


def _next_start(data: bytes, at: int, prose: bool) -> int:
    """The first beginning of a line (of a word) at or after `at`; the end of the data where there is none."""
    if prose:
        while at < len(data) and not data[at - 1 : at].isspace():
            at += 1
        while at < len(data) and data[at : at + 1].isspace():
            at += 1
        return at
    line = data.find(b"\n", at - 1)
    return line + 1 if line >= 0 else len(data)


def spread(rows: list[tuple[str, str]], n: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Draws n rows from as many sources as there are, as evenly as their lengths allow. rows: (text, source)."""
    by_source = defaultdict(list)
    for row in rows:
        by_source[row[1]].append(row)
    piles = [[pile[i] for i in rng.permutation(len(pile))] for pile in by_source.values()]
    rank = [(turn, rng.random(), row) for pile in piles for turn, row in enumerate(pile)]
    drawn = [
        row for _, _, row in sorted(rank, key=lambda item: item[:2])[:n]
    ]  # first of each source, second of each, ...
    return [drawn[i] for i in rng.permutation(n)]


def _folder(name: str) -> dict[str, list[Document]]:
    root = Path(name).expanduser()
    if not root.is_dir():
        known = ", ".join(FEATURE_SETS)
        raise UserError(
            f"no feature dataset {name!r}; give one of {known}, or a folder with a sub-folder for each label"
        )
    labels = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(labels) < 2:
        raise UserError(f"the folder {name!r} has {len(labels)} sub-folders; at least 2 labels are needed")
    documents = {}
    for label in labels:
        files = [p for p in sorted(label.rglob("*")) if p.is_file() and not p.name.startswith(".")]
        texts = [(read_text(path, least=1), path) for path in files]
        documents[label.name] = [
            Document(text, path.relative_to(root).as_posix(), label.name) for text, path in texts if text
        ]
        if not documents[label.name]:
            raise UserError(f"the label {label.name!r} of {name!r} has no UTF-8 text in its {len(files)} files")
    return documents


def _alone(candidates: dict[str, list[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
    """Without the rows that several labels share: they are evidence for none of them."""
    owners = Counter(text for rows in candidates.values() for text in {text for text, _ in rows})
    return {label: [row for row in rows if owners[row[0]] == 1] for label, rows in candidates.items()}
