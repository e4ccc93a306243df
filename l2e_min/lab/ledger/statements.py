"""One Python source as its top-level statements: what each binds, changes and reads, and its meaning as text.

Fingerprints are taken from that text (``meaning.py``). It leaves out what cannot move a number: comments, layout,
docstrings, prints, the words of an error, annotations of arguments.
"""

import ast
import symtable
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from l2e_min.lab.ledger.meaning import PACKAGE, meaning

COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}

Use = tuple[str, str | None]
"""A name that is read, and the attribute taken from it (None: the name by itself)."""

Target = tuple[str, str]
"""What is imported from the package: module and name in it."""


@dataclass(frozen=True)
class Statement:
    """One top-level statement."""

    node: ast.stmt
    binds: frozenset[str]
    """Names that have a new value after it."""
    changes: frozenset[tuple[str, str | None, bool]]
    """Names whose value it may change in place: ``x[0] = 1``, ``x.append(1)``, ``fill(x)``, ``random.shuffle(x)``. Each
    with the name that is called to do so (None: an assignment), and whether that must be a module (the last form;
    ``ax.plot(x)`` looks the same and leaves x alone)."""
    now: frozenset[Use]
    """What it reads when it runs."""
    later: frozenset[Use]
    """What the functions and classes that it defines read when they are called."""
    imports: dict[str, Target]
    """What it imports from the package, by the name that it binds."""
    inner: frozenset[tuple[Target, str | None]]
    """What its functions import from the package when they are called, with the attributes taken from it."""
    methods: "dict[str, Statement]"
    """Of a class without base classes: its methods, which are no part of the rest. Nobody else calls them, so a method
    whose name is nowhere read does nothing."""

    @property
    def settles(self) -> bool:
        """Whether nothing is left of the old values of what it binds."""
        return isinstance(self.node, ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)

    def text(self, name: str) -> str:
        """Its meaning; of an import only what binds ``name``."""
        if not isinstance(self.node, ast.Import | ast.ImportFrom):
            return self._meaning
        module = getattr(self.node, "module", None)
        return "".join(f"{name} = {module} {alias.name}" for alias in self.node.names if _bound(alias) == name)

    @cached_property
    def _meaning(self) -> str:
        return meaning(self.node)

    @cached_property
    def constants(self) -> frozenset[str]:
        """Every text that stands in it."""
        parts = ast.walk(self.node)
        return frozenset(p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str))

    @cached_property
    def attributes(self) -> frozenset[str]:
        """Every attribute that it reads or sets, of whatever."""
        return frozenset(part.attr for part in ast.walk(self.node) if isinstance(part, ast.Attribute))


def statements(source: str) -> list[Statement]:
    """The top-level statements of a source; a loop is one, with all that it holds. SyntaxError: not Python."""
    return [_statement(node) for node in ast.parse(source).body]


def _statement(node: ast.stmt) -> Statement:
    node, methods = _parted(node)
    table = symtable.symtable(ast.unparse(node), "statement", "exec")  # Python's own word on what a name refers to
    parts = list(ast.walk(node))
    uses = _uses(parts)
    symbols = table.get_symbols()
    now = {use for s in symbols if s.is_referenced() for use in uses(s.get_name())}
    later: set[Use] = set()
    for child in table.get_children():
        _reads(child, child.get_name() in COMPREHENSIONS, uses, now, later)
    own = _loop_names(node)
    here = list(_here(node))
    imports = {name: target for part in here for name, target in _imports(part)}
    inner = [pair for part in parts for pair in _imports(part) if pair[0] not in imports]
    return Statement(
        node,
        binds=frozenset(s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace()),
        changes=frozenset(change for part in here for change in _changed(part)),
        now=frozenset(use for use in now if use[0] not in own),
        later=frozenset(later),
        imports=imports,
        inner=frozenset((target, attribute) for name, target in inner for _, attribute in uses(name)),
        methods={method.name: _statement(method) for method in methods},
    )


def _parted(node: ast.stmt) -> tuple[ast.stmt, list[ast.FunctionDef]]:
    """A class without base classes as what is left of it, and its methods but for ``__special__`` ones."""
    if not isinstance(node, ast.ClassDef) or node.bases or node.keywords:
        return node, []
    methods = [p for p in node.body if isinstance(p, ast.FunctionDef) and not p.name.startswith("__")]
    rest = [part for part in node.body if part not in methods] or [ast.Pass()]
    shell = ast.ClassDef(node.name, [], [], rest, node.decorator_list, type_params=getattr(node, "type_params", []))
    return ast.copy_location(shell, node), methods


def _reads(table: symtable.SymbolTable, at_once: bool, uses, now: set[Use], later: set[Use]) -> None:
    """Adds what a nested scope reads from the top level: a comprehension at once, a function when it is called."""
    for symbol in table.get_symbols():
        if symbol.is_global() and symbol.is_referenced():
            (now if at_once else later).update(uses(symbol.get_name()))
    for child in table.get_children():
        _reads(child, at_once and child.get_name() in COMPREHENSIONS, uses, now, later)


def _uses(parts: list[ast.AST]) -> Callable[[str], set[Use]]:
    """A function from a name to its uses among the parts of a statement: with an attribute, or by itself."""
    found: dict[str, set[str | None]] = {}
    dotted = {p.value: p.attr for p in parts if isinstance(p, ast.Attribute) and isinstance(p.value, ast.Name)}
    for part in parts:
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.setdefault(part.id, set()).add(dotted.get(part))
    return lambda name: {(name, attribute) for attribute in found.get(name, {None})}


def _loop_names(node: ast.stmt) -> set[str]:
    """Names that a ``for`` or ``with`` binds before it reads them: nobody else's."""
    read: set[str] = set()
    own: set[str] = set()

    def walk(part: ast.AST) -> None:
        if isinstance(part, ast.For):
            first, bound, body = [part.iter], [part.target], part.body + part.orelse
        elif isinstance(part, ast.With):
            first = [item.context_expr for item in part.items]
            bound, body = [item.optional_vars for item in part.items if item.optional_vars], part.body
        elif isinstance(part, ast.Assign):
            first, bound, body = [part.value], part.targets, []
        else:
            first, bound, body = [part], [], []
        read.update(_names([*first, *bound], ast.Load))
        own.update(_names(bound, ast.Store) - read)
        for inner in body:
            walk(inner)

    if isinstance(node, ast.For | ast.With):
        walk(node)
    return own


def _names(nodes: list[ast.AST], context: type) -> set[str]:
    parts = (part for node in nodes for part in ast.walk(node))
    return {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, context)}


def _here(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement that run with it: not the bodies of functions and classes."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _here(child)


def _imports(node: ast.AST) -> list[tuple[str, Target]]:
    if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != PACKAGE:
        return []
    return [(_bound(alias), (str(node.module), alias.name)) for alias in node.names]


def _changed(node: ast.AST) -> set[tuple[str, str | None, bool]]:
    if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
        found = {(_root(node), None, False)}
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):  # called for what it does, not for its value
        call, caller = node.value, _root(node.value.func)
        method = isinstance(call.func, ast.Attribute)
        found = {(_root(argument), caller, method) for argument in call.args}
        found |= {(caller, caller, False)} if method else set()
    else:
        found = set()
    return {(root, caller, module) for root, caller, module in found if root is not None}


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]
