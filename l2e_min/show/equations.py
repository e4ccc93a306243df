"""Equation to code: the line behind each formula and algorithm of the papers, found when the table is made.

An entry quotes a piece of the code that it stands for. The line number is searched, never typed; a quotation that is
no longer there exactly once is an error, so the table cannot go stale unnoticed.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from l2e_min.lab.paths import ROOT


@dataclass(frozen=True)
class Quotation:
    """A place in the code, and the chapter section that explains it."""

    symbol: str
    """``module:name``, below ``l2e_min``, such as ``moments:RunningMoments.merge``."""
    snippet: str
    """Part of one line of that symbol, word for word."""
    explained: str
    """``chapter#heading``, with the heading as the chapter writes it."""

    @property
    def path(self) -> Path:
        """The source file."""
        return ROOT / "l2e_min" / (self.symbol.partition(":")[0].replace(".", "/") + ".py")

    def line(self) -> int:
        """The line of the snippet, from 1. ValueError where it is not there exactly once, or not in its symbol."""
        text = self.path.read_text(encoding="utf-8")
        if (count := text.count(self.snippet)) != 1:
            raise ValueError(
                f"{self.symbol}: {self.snippet!r} is there {count} times in {self.path.name}; expected once"
            )
        number = text[: text.index(self.snippet)].count("\n") + 1
        first, last = extent(text, self.symbol.partition(":")[2])
        if not first <= number <= last:
            raise ValueError(f"{self.symbol}: {self.snippet!r} is in line {number}, outside of lines {first} to {last}")
        return number

    def code_link(self) -> str:
        """Markdown: file and line, linked to the project's repository."""
        line, path = self.line(), self.path.relative_to(ROOT).as_posix()
        return f"[{path.removeprefix('l2e_min/')}, line {line}]({repository()}/{path}#L{line})"

    def chapter_link(self) -> str:
        """Markdown: number of the chapter and heading, linked to the section."""
        chapter, _, heading = self.explained.partition("#")
        return f"[{int(chapter[:2])} · {heading}]({chapter}.ipynb#{slug(heading)})"

    def links(self) -> str:
        """Markdown: both, on two lines."""
        return f"{self.code_link()}<br>{self.chapter_link()}"


@dataclass(frozen=True)
class Equation(Quotation):
    """A formula or an algorithm of a paper and the line that implements it."""

    paper: str
    """Key of the source: W24, W25, G23, or "this book"."""
    place: str
    """Where in the paper, as the paper counts."""
    what: str
    """What it is, in a few words."""
    formula: str = ""
    """TeX, without dollars."""

    def row(self) -> tuple[str, str]:
        """Markdown of the table's cells."""
        head = f"**{self.paper}, {self.place}** {self.what}"
        return head + (f"<br>${self.formula}$" if self.formula else ""), f"`{self.snippet}`<br>{self.links()}"


@dataclass(frozen=True)
class Deviation(Quotation):
    """Where this book does otherwise than a paper, or does what the paper leaves open."""

    paper: str
    """What the paper says, beginning with its key."""
    ours: str
    """What is done here."""
    why: str
    """The reason."""

    def row(self) -> tuple[str, str]:
        """Markdown of the table's cells."""
        return self.paper, f"{self.ours} *{self.why}*<br>{self.links()}"


@dataclass(frozen=True, repr=False)
class Table:
    """Rows as a Markdown table; the plain text leaves the line numbers out, so it stands while the code moves."""

    entries: Sequence[Equation | Deviation]

    def __repr__(self) -> str:
        return "\n".join(f"{e.paper}, {e.place} {e.what}" if isinstance(e, Equation) else e.paper for e in self.entries)

    def _repr_markdown_(self) -> str:
        deviations = isinstance(self.entries[0], Deviation)
        heads = ("the paper", "here, *and why*") if deviations else ("in the paper", "in the code")
        lines = [heads, ("---", "---"), *(entry.row() for entry in self.entries)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def slug(heading: str) -> str:
    """A heading as the part of an address behind #, as GitHub and MyST make it."""
    kept = (c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")
    return "".join(kept)


def extent(text: str, name: str) -> tuple[int, int]:
    """First and last line of a class, function, method or assigned name (``Class.method``) in a source text."""
    node = ast.parse(text)
    for part in name.split("."):
        node = next((child for child in node.body if part in _names(child)), None)
        if node is None:
            raise ValueError(f"there is no {name} in the source")
    return node.lineno, node.end_lineno


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id]
    return [getattr(node, "name", "")]


@cache
def repository() -> str:
    """Where the source files can be read on the web; ``_config.yml`` is the one place that names it."""
    at = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return f"{at['url']}/blob/{at['branch']}"
