"""Reads the installed text, as documents named relative to their package ("torch/nn/init.py"): see `places`.

Nothing is committed or downloaded; everything is read at run time.
"""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from l2e_min.lab.text.places import DISTRIBUTIONS, DOCSTRING_CAP, GROUPS, MB, PROSE, Files

_NO_TEXT = (".pyc", ".so", ".pyi", ".po", ".mo", ".dat", ".png", ".svg", ".npy", ".npz")
_OF_THIS_MACHINE = ("_sysconfigdata", "pyconfig")  # paths and settings of one build


def unit(text: str, salt: str) -> float:
    """A number in [0, 1) that depends on `text` and `salt` only: the same on every machine and in every version."""
    return int.from_bytes(hashlib.blake2b(f"{salt}:{text}".encode(), digest_size=8).digest(), "big") / 2**64


@functools.cache
def locate(place: str) -> Path | None:
    """The folder of "stdlib", of Python's C "include", or of an installed package ("torch/include"); None if absent."""
    if place in ("stdlib", "include"):
        folder = Path(sysconfig.get_path(place))
    else:
        name, _, rest = place.partition("/")
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            return None
        folder = Path(next(iter(spec.submodule_search_locations))) / rest
    return folder if folder.is_dir() else None


def installed_documents(missing: list[str]) -> Iterator[tuple[str, str, str]]:
    """Every installed document, repeats included: (family, source, text). Absent packages are added to `missing`."""
    for group in GROUPS:
        yield from _files(group, missing)
    yield from _docstrings(missing)
    yield from _manual(missing)
    yield from _about_packages(missing)


def _paths(group: Files, missing: list[str]) -> list[tuple[str, Path]]:
    found = {}
    for place in group.where:
        folder = locate(place)
        if folder is None:
            missing.append(place)
            continue
        prefix = place if place != "include" else "include/python"
        for inside in _listing(folder):
            if inside.endswith(group.suffixes) and not group.skip & set(inside.split("/")[:-1]):
                found[f"{prefix}/{inside}"] = folder / inside
    # An order that has nothing to do with names: a cap then takes a sample of a package, not its first letters.
    return sorted(found.items(), key=lambda item: unit(item[0], "order"))


@functools.cache  # several families read the same packages
def _listing(folder: Path) -> tuple[str, ...]:
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", "site-packages", "dist-packages")]
        files += [(Path(root) / name).relative_to(folder).as_posix() for name in names if not name.endswith(_NO_TEXT)]
    return tuple(files)


def _files(group: Files, missing: list[str]) -> Iterator[tuple[str, str, str]]:
    taken = 0
    for source, path in _paths(group, missing):
        if path.name.startswith(_OF_THIS_MACHINE) or path.stat().st_size > MB:  # larger ones are bundles
            continue
        text = read_text(path)
        if text is None or machine_made(text):
            continue
        for number, part in enumerate(_chunks(text, group.chunk)):
            yield group.family, f"{source}#{number}" if number else source, part
        taken += len(text)
        if taken >= group.cap:
            return


def _chunks(text: str, chunk: int | None) -> Iterator[str]:
    start = 0
    while chunk and len(text) - start > 2 * chunk:
        end = text.find("\n", start + chunk) + 1 or len(text)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def read_text(path: Path, least: int = 64) -> str | None:
    """The text of a file with its line ends made alike; None for a binary, unreadable, or shorter one than `least`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if len(text) >= least and "\0" not in text else None


def machine_made(text: str) -> bool:
    """Whether most of the text stands in very long lines: minified code, data in strings, icons as paths."""
    long = sum(len(line) for line in text.splitlines() if len(line) > 400)
    return long > 0.3 * len(text)


def _docstrings(missing: list[str]) -> Iterator[tuple[str, str, str]]:
    taken = 0
    for source, path in _paths(Files("docstrings", PROSE, (".py",)), missing):
        text = read_text(path)
        prose = docstrings(text) if text else ""
        if len(prose) >= 200:
            yield "docstrings", source, prose
            taken += len(prose)
        if taken >= DOCSTRING_CAP:
            return


def docstrings(code: str) -> str:
    """The docstrings of a module, its classes and functions, in order of appearance, blank lines between them."""
    try:
        nodes: list[ast.AST] = [ast.parse(code)]
    except (SyntaxError, ValueError):
        return ""
    found = []
    while nodes:
        node = nodes.pop()
        inner = [n for n in node.body if isinstance(n, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))]
        nodes.extend(reversed(inner))
        found.append(ast.get_docstring(node) or "")
    return "\n\n".join(text for text in found if len(text) >= 40)


def _manual(missing: list[str]) -> Iterator[tuple[str, str, str]]:
    """The reference manual of Python, one document a topic: what `help("assert")` prints."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        missing.append("stdlib/pydoc_data")
        return
    for name in sorted(topics):
        yield "manual", f"stdlib/pydoc_data/{name}", topics[name]


def _about_packages(missing: list[str]) -> Iterator[tuple[str, str, str]]:
    for name in DISTRIBUTIONS:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        about = distribution.metadata.get_payload() or distribution.metadata.get("Description") or ""
        if isinstance(about, str) and len(about) >= 200 and not machine_made(about):
            yield "readmes", f"{name}/README", about
        for file in sorted(distribution.files or [], key=str):
            inside = file.parts[0].endswith(".dist-info")
            if inside and re.search(r"licen[cs]e|copying|notice", file.name, re.IGNORECASE):
                family = "licences"
            elif inside and file.name.endswith(".json") and "sboms" in file.parts:
                family = "json"
            else:
                continue
            path = Path(str(file.locate()))
            text = read_text(path) if path.is_file() and path.stat().st_size < MB else None
            if text:
                yield family, "/".join((name, *file.parts[1:])), text
