"""The installed text as a corpus: read once, freed of repeats, split, its reserve cleaned, and cached."""

import hashlib
import importlib.metadata
import itertools
import json
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from l2e_min.lab.errors import UserError
from l2e_min.lab.paths import BUILD
from l2e_min.lab.text import document as document_module
from l2e_min.lab.text import languages, overlap, places, sources
from l2e_min.lab.text.document import Corpus, Document, split_of

SPLITS = ("train", "validation", "reserved")
KEPT = 3
"""Cached states of the installed text (40 MB each): several Pythons may share a checkout, old versions go."""

LARGE = 120_000
"""Characters above which a file is never validation text: one table or listing would outweigh a hundred files."""


def installed_corpus(cache: bool = True) -> Corpus:
    """The installed text, split and free of repeats; from the cache while that is valid (see `corpus.load_corpus`)."""
    path = BUILD / "text" / f"installed-{_versions_key()}.json"
    if cache and path.is_file():
        try:
            return _unpack(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # a damaged cache is only a cache: read everything again
    corpus = _build()
    if cache:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.tmp")  # several runs may start at once: move a whole file into place
        part.write_text(json.dumps(_pack(corpus), ensure_ascii=False), encoding="utf-8")
        part.replace(path)
        kept = sorted(path.parent.glob("installed-*.json"), key=lambda p: p.stat().st_mtime)
        for old in kept[:-KEPT]:
            old.unlink(missing_ok=True)
    return corpus


def _build() -> Corpus:
    from tqdm.auto import tqdm  # reading takes 10 to 20 seconds, once

    missing: list[str] = []
    found = itertools.chain(sources.installed_documents(missing), languages.language_documents(missing))
    bar = tqdm(found, desc="reading installed text", unit=" files", leave=False)
    documents = [Document(text, source, family) for family, source, text in bar]
    documents.sort(key=lambda d: (d.family, d.source))
    repeated = set(overlap.near_duplicates([document.text for document in documents]))
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "reserved": []}
    for index, document in enumerate(documents):
        if index not in repeated:
            split = split_of(document.family, document.source)
            if split == "validation" and len(document.text) > LARGE:
                split = "train"
            splits[split].append(document)
    if not splits["train"] or not splits["validation"]:
        raise UserError("found no installed text to train on; give a folder of text files instead")
    reserved = clean_reserve(splits["reserved"], [*splits["train"], *splits["validation"]])
    return Corpus("installed", splits["train"], splits["validation"], tuple(reserved), tuple(dict.fromkeys(missing)))


def clean_reserve(reserved: list[Document], others: Iterable[Document]) -> list[Document]:
    """The pieces of the reserved documents without any 40 bytes that occur in `others`, in two families, or earlier on.

    So by construction no feature row is in the training text, none belongs to two labels and none repeats another.
    """
    if not reserved:
        return []
    index = overlap.WindowIndex([document.text for document in reserved])
    outside = overlap.distinct([index.shared(document.text) for document in others])
    hashes = [overlap.window_hashes(document.text.encode()) for document in reserved]
    families = {name: i for i, name in enumerate(sorted({document.family for document in reserved}))}
    family = np.repeat([families[d.family] for d in reserved], [len(h) for h in hashes])
    values, first, inverse = np.unique(np.concatenate(hashes), return_index=True, return_inverse=True)
    low, high = np.full(len(values), len(families)), np.full(len(values), -1)
    np.minimum.at(low, inverse, family)
    np.maximum.at(high, inverse, family)
    bad = ((low < high) | np.isin(values, outside, assume_unique=True))[inverse]
    bad |= first[inverse] != np.arange(len(inverse))  # only the first of several equal windows stays
    cuts = np.cumsum([len(h) for h in hashes])[:-1]
    return [
        Document(piece, document.source, document.family)
        for document, flags in zip(reserved, np.split(bad, cuts), strict=True)
        for piece in overlap.cut_out(document.text, flags)
    ]


def _versions_key() -> str:
    """Names a state of the installed text: Python, the packages read, and the code that reads them."""
    state = [platform.python_version(), os.fspath(sources.locate("include") or "")]
    for name in sources.DISTRIBUTIONS:
        try:
            state.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    code = [
        Path(module.__file__).read_text(encoding="utf-8")
        for module in (document_module, languages, overlap, places, sources)
    ]
    code.append(Path(__file__).read_text(encoding="utf-8"))
    return hashlib.sha256("\n".join([*state, *code]).encode()).hexdigest()[:16]


def _pack(corpus: Corpus) -> dict[str, object]:
    splits = {name: [[d.text, d.source, d.family] for d in getattr(corpus, name)] for name in SPLITS}
    return {"name": corpus.name, "missing": corpus.missing, **splits}


def _unpack(packed: dict) -> Corpus:
    train, validation, reserved = ([Document(*fields) for fields in packed[name]] for name in SPLITS)
    return Corpus(packed["name"], train, validation, tuple(reserved), tuple(packed["missing"]))
