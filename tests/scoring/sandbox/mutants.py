"""Programs that are wrong by one small change, as a model's often are."""

from __future__ import annotations

import ast
import random
import warnings
from collections.abc import Callable

__all__ = ["mutated"]

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Div,
    ast.Div: ast.FloorDiv,
    ast.Mod: ast.FloorDiv,
}
_CALLS = {"min": "max", "max": "min", "sorted": "list", "list": "tuple", "tuple": "list", "set": "list", "sum": "max"}


def mutated(code: str, chance: random.Random) -> str | None:
    """Return `code` with one operator, comparison, number, return value or builtin changed; None where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on escapes such as "\\d"
        tree = ast.parse(code)
    changes = [change for node in ast.walk(tree) for change in _changes(node)]
    if not changes:
        return None
    chance.choice(changes)()
    return ast.unparse(tree)


def _changes(node: ast.AST) -> list[Callable[[], None]]:
    """Return what may be done to `node`, in place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        ops, other = node.ops, _COMPARISONS[type(node.ops[0])]
        return [lambda: ops.__setitem__(0, other())]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        operation, swapped = node, _OPERATORS[type(node.op)]
        return [lambda: setattr(operation, "op", swapped())]
    if isinstance(node, ast.Constant) and type(node.value) is int:
        number, value = node, node.value
        return [lambda: setattr(number, "value", value + 1), lambda: setattr(number, "value", value - 1)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        name, replaced = node.func, _CALLS[node.func.id]
        return [lambda: setattr(name, "id", replaced)]
    if isinstance(node, ast.Return) and node.value is not None:
        returned = node
        return [lambda: setattr(returned, "value", ast.Constant(None))]
    return []
