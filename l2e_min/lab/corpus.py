"""The text that models are trained on: installed text by default, a folder, or a dataset of the Hugging Face hub.

    corpus = load_corpus("installed")
    for row in corpus.table():
        print(row)

Split by file with a stable hash: training text, validation text, and files reserved for the feature datasets, whose
rows are in neither. Contents move with package versions; `Corpus.fingerprint` says on which text a model was trained.
"""

import functools
import hashlib
from collections import defaultdict
from dataclasses import dataclass

from l2e_min.lab import languages, sources
from l2e_min.lab.errors import UserError

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


def load_corpus(text: str = "installed", *, max_bytes_per_family: int | None = None, cache: bool = True) -> Corpus:
    """The texts named by `text`, split into training and validation.

    text: "installed" (36 MB or so that every installation of this project has), a folder of text files, or
    "hub:NAME[:config]" (streamed from the Hugging Face hub until 40 MB are read).
    max_bytes_per_family: keep at most so much training text of each family, and a fifth of it for validation.
    cache: keep the installed text under BUILD/text (plain JSON), valid while packages and this code are unchanged.
    Raises UserError where there is no such folder, no text in it, or no way to the hub.
    """
    if max_bytes_per_family is not None and max_bytes_per_family < 1000:
        raise UserError(f"max_bytes_per_family is {max_bytes_per_family}; it must be at least 1000 bytes")
    if text == "installed":
        from l2e_min.lab.installed import installed_corpus

        corpus = installed_corpus(cache)
    else:
        from l2e_min.lab import own_text

        name, documents = own_text.hub(text) if text.startswith("hub:") else own_text.folder(text)
        corpus = Corpus(name, *_split_in_two(documents))
    if max_bytes_per_family is None:
        return corpus
    train = _at_most(corpus.train, max_bytes_per_family)
    validation = _at_most(corpus.validation, max_bytes_per_family // 5)
    return Corpus(corpus.name, train, validation, corpus.reserved, corpus.missing)


def split_of(family: str, source: str) -> str:
    """ "train", "validation" or "reserved": depends on the names alone, so the split survives new versions."""
    if source.startswith("phrases/"):  # languages are split by phrase: the same messages in every language
        position = int(source.rsplit("/", 1)[1]) / languages.BUCKETS
    else:
        position = sources.unit(source, "split")
    reserved = RESERVED.get(family, 0.0) - 1e-9  # bucket 18 of 20 is not below .9
    return "reserved" if position < reserved else "validation" if position < reserved + VALIDATION else "train"


def _split_in_two(documents: list[Document]) -> tuple[list[Document], list[Document]]:
    """Splits by a hash of the source; a side left empty gets one file, or the end of the only one."""
    splits: dict[str, list[Document]] = {"train": [], "validation": []}
    for document in documents:
        splits["validation" if sources.unit(document.source, "split") < VALIDATION else "train"].append(document)
    train, validation = splits["train"], splits["validation"]
    if len(documents) == 1:
        only = documents[0]
        end = only.text.rfind("\n", 0, int(len(only.text) * (1 - VALIDATION))) + 1 or int(len(only.text) * 0.95)
        return [Document(only.text[:end], only.source, only.family)], [
            Document(only.text[end:], f"{only.source}#end", only.family)
        ]
    if not validation:
        validation.append(train.pop(max(range(len(train)), key=lambda i: sources.unit(train[i].source, "order"))))
    if not train:
        train.append(validation.pop())
    return train, validation


def _at_most(documents: list[Document], limit: int) -> list[Document]:
    """At most `limit` bytes of each family, files in an order without meaning, the last one cut after a line."""
    left: dict[str, int] = defaultdict(lambda: limit)
    kept = {}
    for index in sorted(range(len(documents)), key=lambda i: sources.unit(documents[i].source, "order")):
        document = documents[index]
        data = document.text.encode()
        if len(data) > left[document.family]:
            data = data[: left[document.family]]
            data = data[: data.rfind(b"\n") + 1]
        if len(data) >= 64:
            left[document.family] -= len(data)
            kept[index] = Document(data.decode(errors="ignore"), document.source, document.family)
    return [kept[index] for index in sorted(kept)]
