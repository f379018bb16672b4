"""Leaving off what models write behind a program: a `__main__` block, example calls, their own tests."""

from __future__ import annotations

import ast
import re
import warnings

__all__ = ["defines", "parsed", "without_examples"]

_HEADING = re.compile(r"^#+\s*(?:examples?|samples?|usage|tests?|testing|driver)\b", re.IGNORECASE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ALIASES = (ast.Lambda, ast.Attribute, ast.Name)  # f = lambda x: x;  f = math.gcd;  f = g


def without_examples(program: str, prompt: str = "") -> str:
    """Return `program` without the statements at its end that only try it out.

    prompt: source that stands before it. Unchanged where both together do not parse or define
    nothing, and where nothing would be left.

    Left off are a `__main__` block, assertions, calls of `print` and of functions that the program defines, loops and
    assignments made of such, and all statements behind a comment such as "# Example usage" or "# Test examples".
    Nothing is left off before the last definition or import, and no assignment of a name that a function reads.
    """
    tree = parsed(prompt + program)
    if not isinstance(tree, ast.Module):
        return program
    body = tree.body
    names = {name for node in body for name in _names(node)}
    if not names:
        return program
    read = {
        part.id
        for node in body
        if isinstance(node, _DEFINITIONS)
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }
    lines = (prompt + program).split("\n")
    fixed = max(
        index + 1 for index, node in enumerate(body) if _names(node) or isinstance(node, (ast.Import, ast.ImportFrom))
    )
    heading = _heading(lines, body[fixed - 1].end_lineno or 0)
    end = len(body)
    while end > fixed and (body[end - 1].lineno > heading or _tries(body[end - 1], names, read)):
        end -= 1
    if end == len(body):
        return program
    shorter = "\n".join(lines[: body[end - 1].end_lineno])[len(prompt) :]
    return shorter if shorter.strip() else program


def parsed(source: str) -> ast.Module | SyntaxError | None:
    """Return the tree, the fault, or None where there is neither: a NUL, brackets nested by the thousand."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes such as "\\d", which are the model's affair
            return ast.parse(source)
    except SyntaxError as fault:
        return fault
    except (ValueError, RecursionError, MemoryError):
        return None


def defines(node: ast.stmt) -> bool:
    """Return whether a statement defines a function, a class, or a name for what may be one."""
    return bool(_names(node))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Assign) and isinstance(node.value, _ALIASES):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _heading(lines: list[str], first: int) -> float:
    """Return the number, from 1, of the first line behind line `first` that is a heading, or infinity."""
    return next(
        (number for number, line in enumerate(lines[first:], start=first + 1) if _HEADING.match(line)), float("inf")
    )


def _tries(node: ast.stmt, names: set[str], read: set[str]) -> bool:
    """Return whether a statement only tries the program out; `names` are those that it defines."""
    match node:
        case ast.Assert() | ast.Pass() | ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
        case ast.If() | ast.For() | ast.While():
            return all(_tries(part, names, read) for part in [*node.body, *node.orelse])
        case ast.With() | ast.Try():
            return all(_tries(part, names, read) for part in node.body)
        case ast.Expr():
            return isinstance(node.value, ast.Constant) or _mentions(node.value, {*names, "print", "input"})
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name not in read and (_mentions(node.value, {*names, "input"}) or _is_literal(node.value))
    return False


def _mentions(node: ast.expr, names: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _is_literal(node: ast.expr) -> bool:
    """Return whether an expression is a value such as an example is called with."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        return False
    return True
