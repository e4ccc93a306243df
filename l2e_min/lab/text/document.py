"""A text, a corpus of texts, and the stable split of its files."""

import functools
import hashlib
from collections import defaultdict
from dataclasses import dataclass

from l2e_min.lab.text import languages, sources

VALIDATION = 0.05
"""Share of the files of every family that is validation text."""

RESERVED = {
    **dict.fromkeys(("python", "cpp", "docstrings"), 0.04), "cython": 0.3, "c": 0.15, "manual": 0.3, "readmes": 0.2,
    "licences": 0.75, "javascript": 0.6, "json": 0.6, "tables": 0.25, "html": 0.65, "css": 0.45, "cmake": 0.4,
    "latex": 0.4, **dict.fromkeys(languages.LANGUAGES, 0.6), "en_GB": 0.7, "tr": 0.75, "id": 0.8, "sv": 0.9,
}  # fmt: skip
"""Share of a family's files kept for feature rows: more where there is little text, 0 for families not named.

200 rows of 128 bytes are 26 kB; Swedish has 33 kB in all, so a model sees next to none of it in training.
"""


@dataclass(frozen=True)
class Document:
    """One text. `source`: its name, the same on every machine ("stdlib/json/decoder.py"); `family`: its kind."""

    text: str
    source: str
    family: str


@dataclass(frozen=True)
class Corpus:
    """Texts to train and to validate on.

    `reserved`: pieces of text for feature rows, which share no 40 bytes with training or validation text.
    `missing`: places of the installed text that this machine lacks (their families are smaller or empty).
    """

    name: str
    train: list[Document]
    validation: list[Document]
    reserved: tuple[Document, ...] = ()
    missing: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of sources and texts of the training and validation documents, in order (hexadecimal)."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            for document in split:
                for part in (document.family, document.source, document.text):
                    digest.update(part.encode() + b"\0")
            digest.update(b"\1")
        return digest.hexdigest()

    def table(self) -> list[dict[str, object]]:
        """Rows to print: family, split, files, kB, share of the split; a last row for each place that is missing."""
        rows = []
        for split in ("train", "validation", "reserved"):
            sizes, files = defaultdict(int), defaultdict(set)
            for document in getattr(self, split):
                sizes[document.family] += len(document.text.encode())
                files[document.family].add(document.source)
            total = sum(sizes.values())
            for family in sorted(sizes, key=sizes.get, reverse=True):
                size = sizes[family]
                rows.append({"family": family, "split": split, "files": len(files[family]), "kB": round(size / 1000),
                             "share": round(size / total, 4)})  # fmt: skip
        absent = [{"family": f"(absent: {m})", "split": "", "files": 0, "kB": 0, "share": 0.0} for m in self.missing]
        return rows + absent


def split_of(family: str, source: str) -> str:
    """ "train", "validation" or "reserved": depends on the names alone, so the split survives new versions."""
    if source.startswith("phrases/"):  # languages are split by phrase: the same messages in every language
        position = int(source.rsplit("/", 1)[1]) / languages.BUCKETS
    else:
        position = sources.unit(source, "split")
    reserved = RESERVED.get(family, 0.0) - 1e-9  # bucket 18 of 20 is not below .9
    return "reserved" if position < reserved else "validation" if position < reserved + VALIDATION else "train"
