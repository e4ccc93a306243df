"""A syntax tree as text that tells what it does: two sources with the same text give the same numbers."""

import ast

PACKAGE = "l2e_min"


def meaning(node: object) -> str:
    """A syntax tree as text, the same under every Python version and for every layout."""
    if isinstance(node, list):
        return "[" + ",".join(text for text in map(meaning, node) if text) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _prints(node.value)):
        return ""
    if isinstance(node, ast.Raise):
        return "Raise"
    aside = {"ctx", "kind", "type_comment", "type_params", "returns"}
    aside |= {"annotation"} if isinstance(node, ast.arg) else set()
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
        aside.add("module")  # what is imported is followed; where it lives moves no number
    parts = [(name, getattr(node, name, None)) for name in node._fields if name not in aside]
    told = [f"{name}={meaning(value)}" for name, value in parts if value is not None and value != []]
    return f"{type(node).__name__}({','.join(told)})"


def _prints(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
