"""Leaving off what models write behind a program: a `__main__` block, example calls, their own tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from della_bench.scoring.code.names import bound_names, read_below
from della_bench.scoring.code.parsing import parsed

__all__ = ["defines", "without_examples"]

_HEADING = re.compile(r"^#+\s*(?:examples?|samples?|usage|tests?|testing|driver)\b", re.IGNORECASE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_ALIASES = (ast.Lambda, ast.Attribute, ast.Name)  # f = lambda x: x;  f = math.gcd;  f = g
_MAKERS = frozenset({"lru_cache", "cache", "partial", "vectorize"})  # f = lru_cache(g)


def without_examples(
    program: str, prompt: str = "", asked: Collection[str] = (), tree: ast.Module | None = None
) -> str:
    """Return `program` without the statements at its end that only try it out.

    prompt: source that stands before it. asked: names that the tests need. tree: what both together parse to, where it
    is known. Unchanged where they do not parse or define nothing, and where nothing would be left.

    Left off are a `__main__` block, assertions, calls of `print` and of functions that the program defines, loops and
    assignments made of such, and all statements behind a comment such as "# Example usage" or "# Test examples".
    Nothing is left off before the last import or definition (of what is asked for, however it is made: `f = make()`),
    nothing that sets or fills a global which a function reads, be it an entry or an attribute, and no call of what
    does.
    """
    whole = tree or parsed(prompt + program)
    if not isinstance(whole, ast.Module):
        return program
    body = whole.body
    wanted = bound_names(body) & set(asked)
    names = {name for node in body for name in _defined(node)} | wanted
    if not names:
        return program
    fixed = max(
        index + 1
        for index, node in enumerate(body)
        if _defined(node) or isinstance(node, (ast.Import, ast.ImportFrom)) or bound_names([node]) & wanted
    )
    if fixed == len(body):
        return program
    uses = _Uses(names, read_below(prompt + program), _filling(body, wanted))
    lines = (prompt + program).split("\n")
    heading = _heading(lines, body[fixed - 1].end_lineno or 0)
    end = len(body)
    while end > fixed and not uses.need(body[end - 1]):
        if body[end - 1].lineno <= heading and not uses.only_try(body[end - 1]):
            break
        end -= 1
    if end == len(body):
        return program
    shorter = "\n".join(lines[: body[end - 1].end_lineno])[len(prompt) :]
    return shorter if shorter.strip() else program


def defines(node: ast.stmt) -> bool:
    """Return whether a statement defines a function, a class, or a name for what may be one."""
    return bool(_defined(node))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    if isinstance(node, ast.Assign) and (isinstance(node.value, _ALIASES) or _wraps(node.value)):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def _wraps(node: ast.expr) -> bool:
    """Return whether an expression makes a function of another: `lru_cache(None)(f)`, `partial(f, 2)`."""
    if not isinstance(node, ast.Call):
        return False
    maker = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return isinstance(node.func, ast.Call) or maker in _MAKERS


def _filling(body: Sequence[ast.stmt], asked: Collection[str]) -> set[str]:
    """Return the functions, but those that are asked for, that use a variable of the module."""
    variables = bound_names(node for node in body if isinstance(node, _ASSIGNMENTS))
    return {
        node.name
        for node in body
        if isinstance(node, _DEFINITIONS)
        and node.name not in asked
        and any(
            (isinstance(part, ast.Name) and part.id in variables) or isinstance(part, ast.Global)
            for part in ast.walk(node)
        )
    }


def _heading(lines: list[str], first: int) -> float:
    """Return the number, from 1, of the first line behind line `first` that is a heading, or infinity."""
    return next(
        (number for number, line in enumerate(lines[first:], start=first + 1) if _HEADING.match(line)), float("inf")
    )


@dataclass(frozen=True)
class _Uses:
    """The names that a program defines, the globals that its functions read, and the functions that fill such."""

    names: set[str]
    read: set[str]
    filling: set[str]

    def need(self, node: ast.stmt) -> bool:
        """Return whether a statement sets or fills what a function reads, or calls a function that does."""
        match node:
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                return False
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try():
                return bool(bound_names([node]) & self.read) or any(map(self.need, _statements_in(node)))
            case ast.Expr(value=ast.Call(func=ast.Name(id="setattr"), args=[target, *_])):
                return _root(target) in self.names | self.read
            case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
                return name in self.filling
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))):
                return name in self.read - self.names  # else a method is tried
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Attribute() | ast.Subscript() as filled))):
                return _root(filled) in self.names | self.read
        if not isinstance(node, _ASSIGNMENTS):
            return False
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        roots = {_root(target) for target in targets if isinstance(target, (ast.Attribute, ast.Subscript))}
        return bool(bound_names([node]) & self.read or roots & (self.names | self.read))

    def only_try(self, node: ast.stmt) -> bool:
        """Return whether a statement only tries the program out."""
        match node:
            case ast.Assert() | ast.Pass() | ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                return True
            case ast.If() | ast.For() | ast.While():
                return all(map(self.only_try, [*node.body, *node.orelse]))
            case ast.With() | ast.Try():
                return all(map(self.only_try, node.body))
            case ast.Expr():
                return isinstance(node.value, ast.Constant) or _mentions(node.value, {*self.names, "print", "input"})
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return not self.need(node) and (_mentions(value, {*self.names, "input"}) or _is_literal(value))
        return False


def _statements_in(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements one level below another."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.stmt):
            yield part
        elif isinstance(part, ast.ExceptHandler):
            yield from part.body


def _root(node: ast.expr) -> str:
    """Return the name that an attribute or an entry is of: `a` of `a.b[0]`; "" where it is of no name."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _mentions(node: ast.expr, names: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _is_literal(node: ast.expr) -> bool:
    """Return whether an expression is a value such as an example is called with."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        return False
    return True
