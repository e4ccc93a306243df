"""Which code makes a number: from one statement backwards, along the names it reads, through the whole package.

A chapter is read from the statement that records a result towards its start, a module as a whole. What only draws,
keeps the ledger or words an error is left out. Two things stay outside: other packages (a result carries their
versions) and the models that ship (they are data).
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

from l2e_min.lab.ledger.meaning import PACKAGE
from l2e_min.lab.ledger.statements import Statement, statements

LEFT_OUT = ("show", "lab.ledger", "lab.errors", "lab.paths", "lab.arrays", "lab.commands", "lab.cli")
"""Rooms and modules of the package that make no number."""

KEPT = f"{PACKAGE}.lab.ledger.measurement"
"""... but this module of the ledger makes intervals."""

IMPORTS = (ast.Import, ast.ImportFrom)


class Code:
    """The book and the package below one folder (the checkout); every file is read once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.read = cache(self._read)

    def behind_function(self, module: str, name: str) -> "Slice":
        """The code behind a function. LookupError: there is no such function."""
        place = module.replace(".", "/")
        if not any(name in statement.binds for statement in self.read(place) or ()):
            raise LookupError(f"{module} has no {name}")
        found = Slice(self)
        found.follow([(place, name, None, None)])
        return found

    def behind_claim(self, chapter: str, claim: str) -> "Slice | None":
        """The code behind the result that a chapter records for a claim. None: the book is not there."""
        place = f"book/{chapter}"
        cells = self.read(place)
        if cells is None:
            return None
        found = Slice(self)
        for position in recording(cells, claim):
            found.take(place, position, "")
        found.follow()
        return found

    def _read(self, place: str) -> list[Statement] | None:
        for path in (self.root / f"{place}.py", self.root / place / "__init__.py"):
            if path.is_file():
                return statements(path.read_text(encoding="utf-8"))
        return None


class Slice:
    """A part of the code that grows along the names it reads."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.texts: dict[str, dict[tuple[int, str], str]] = {}
        """Meaning of every statement taken, by file and by position in it."""
        self.constants: set[str] = set()
        self._wanted: list[tuple[str, str, str | None, int | None]] = []
        self._called: set[str] = set()  # names of attributes and texts: any method with such a name may be called
        self._waiting: list[tuple[str, str, int]] = []  # methods that nobody has called so far

    def digests(self) -> dict[str, str]:
        """One short hash a file, of the statements taken from it."""
        parts = {place: "\n".join(text for _, text in sorted(texts.items())) for place, texts in self.texts.items()}
        return {place: hashlib.sha256(text.encode()).hexdigest()[:10] for place, text in sorted(parts.items())}

    def follow(self, wanted=()) -> None:
        """Takes what is asked for and everything that this reads. An item: file, name, attribute, read before where."""
        self._wanted += wanted
        seen = set()
        while self._wanted:
            request = self._wanted.pop()
            if request in seen:
                continue
            seen.add(request)
            place, name, attribute, before = request
            for position in self._writers(place, name, before):
                statement = self.code.read(place)[position]
                if name in statement.imports:
                    self._wanted.append(self._imported(*statement.imports[name], attribute))
                elif not left_out(place):
                    self.take(place, position, name)

    def take(self, place: str, position: int, name: str) -> None:
        """Takes a statement (an import: only what binds ``name``; a class: its methods as they are called)."""
        statement = self.code.read(place)[position]
        self._add(place, (position, name if isinstance(statement.node, IMPORTS) else ""), statement, name)

    def _add(self, place: str, key: tuple[int, str], statement: Statement, name: str) -> None:
        texts = self.texts.setdefault(place, {})
        if key in texts:
            return
        texts[key] = statement.text(name)
        self.constants |= statement.constants
        before = key[0] if place.startswith("book/") else None
        self._wanted += [(place, *use, before) for use in statement.now]
        self._wanted += [(place, *use, None) for use in statement.later]
        self._wanted += [self._imported(*target, attribute) for target, attribute in statement.inner]
        self._called |= statement.attributes | statement.constants | {use[0] for use in statement.now | statement.later}
        self._waiting += [(method, place, key[0]) for method in statement.methods]
        called = [item for item in self._waiting if item[0] in self._called]
        self._waiting = [item for item in self._waiting if item[0] not in self._called]
        for method, home, position in called:
            self._add(home, (position, method), self.code.read(home)[position].methods[method], method)

    def _imported(self, module: str, name: str, attribute: str | None) -> tuple[str, str, str | None, None]:
        place = module.replace(".", "/")
        if self.code.read(f"{place}/{name}") is None:
            return place, name, None, None
        return f"{place}/{name}", attribute or "*", None, None  # a module by itself: all of it

    def _writers(self, place: str, name: str, before: int | None) -> list[int]:
        """Positions of the statements behind a name's value just before a position (None: at any time)."""
        found = []
        all_of_it = self.code.read(place) or []
        quiet, modules = self._quiet(place), self._modules(place)
        for position in reversed(range(len(all_of_it) if before is None else before)):
            statement = all_of_it[position]
            changes = any(
                changed == name and caller not in quiet and (caller in modules or not of_module)
                for changed, caller, of_module in statement.changes
            )
            if name in statement.binds or name == "*" or changes:
                found.append(position)
            if before is not None and name in statement.binds and statement.settles:
                break
        return found

    @cache  # noqa: B019 a slice lives for a moment
    def _quiet(self, place: str) -> set[str | None]:
        """Names that a file imports from rooms that make no number: calling them changes nothing."""
        found: set[str | None] = {"print"}
        for statement in self.code.read(place) or []:
            for bound, target in statement.imports.items():
                home, name, *_ = self._imported(*target, None)
                defined = [s for s in self.code.read(home) or [] if name in s.binds and name not in s.imports]
                if left_out(home) and (name == "*" or defined):
                    found.add(bound)
        return found

    def _modules(self, place: str) -> set[str]:
        """Names that a file imports from anywhere."""
        imports = [s for s in self.code.read(place) or [] if isinstance(s.node, IMPORTS)]
        return {name for statement in imports for name in statement.binds}


def left_out(place: str) -> bool:
    """Whether a file makes no number."""
    module = place.replace("/", ".")
    return module != KEPT and any(f"{module}.".startswith(f"{PACKAGE}.{name}.") for name in LEFT_OUT)


def recording(cells: list[Statement], claim: str) -> list[int]:
    """Positions of the statements that record a claim: those that name it, or (in a loop, say) all that record."""
    calls = [
        (position, part)
        for position, statement in enumerate(cells)
        for part in ast.walk(statement.node)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "record"
    ]
    named = [p for p, call in calls if call.args and getattr(call.args[0], "value", None) == claim]
    return named or [position for position, _ in calls] or list(range(len(cells)))
