"""Leaving off what models write behind a program: a `__main__` block, example calls, their own tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from della_bench.scoring.code.names import bound_names, in_scope, needed_names, read_below
from della_bench.scoring.code.parsing import parsed

__all__ = ["defines", "without_examples"]

_HEADING = re.compile(r"^#+\s*(?:examples?|samples?|usage|tests?|testing|driver)\b", re.IGNORECASE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ROUNDS = 8  # of looking which variables are examples: the work is to grow with the length of a program
_IMPORTS = (ast.Import, ast.ImportFrom)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_ALIASES = (ast.Lambda, ast.Attribute, ast.Name)  # f = lambda x: x;  f = math.gcd;  f = g
_INPUT = frozenset({"print", "input", "raw_input", "exit", "quit"})
_OF_TESTS = frozenset({"unittest", "pytest", "doctest", "matplotlib", "time", "timeit"})  # modules that try things out
_OF_SYS = frozenset({"argv", "stdin", "exit"})
_MAKERS = frozenset({"lru_cache", "cache", "partial", "vectorize"})  # f = lru_cache(g)


def without_examples(
    program: str, prompt: str = "", asked: Collection[str] = (), tree: ast.Module | None = None
) -> str:
    """Return `program` without the statements at its end that only try it out.

    prompt: source that stands before it. asked: names that the tests need. tree: what both together parse to, where it
    is known. Unchanged where they do not parse or define nothing, and where nothing would be left.

    Left off are a `__main__` block, assertions, calls of `print` and of functions that the program defines, loops and
    assignments made of such, what reads input or is done to what was read, tests of the model's own (`test_...`,
    TestCase) with their imports, words of prose that happen to parse (`Complexity: O(n)`), and all statements behind a
    comment such as "# Example usage" or "# Test examples".
    Nothing is left off before the last definition (of what is asked for, however it is made: `f = make()`) or the last
    import that it reads, nothing that sets or fills a global which a function reads, be it an entry or an attribute,
    and no call of what does.
    """
    whole = tree or parsed(prompt + program)
    if not isinstance(whole, ast.Module):
        return program
    body = whole.body
    wanted = bound_names(body) & set(asked)
    names = {name for node in body for name in _defined(node)} - _second_names(body) | wanted
    if not names:
        return program
    lines = (prompt + program).split("\n")
    fixed = _fixed(body, lines, wanted)
    if fixed == len(body):
        return program
    uses = _Uses(
        names,
        read=read_below(prompt + program),
        filling=_filling(body, wanted),
        unknown=needed_names(prompt + program),
        of_tests={name for node in body for name in _of_tests(node)},
    ).with_tried(body[fixed:])
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


def _second_names(body: Sequence[ast.stmt]) -> set[str]:
    """Return the names that are given to variables of the module: `c = CACHE`."""
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    variables = bound_names(node for node in assigned if not _defined(node))
    return {
        name
        for node in assigned
        if isinstance(node.value, ast.Name) and node.value.id in variables
        for name in _defined(node)
    }


def _wraps(node: ast.expr) -> bool:
    """Return whether an expression makes a function of another: `lru_cache(None)(f)`, `partial(f, 2)`."""
    if not isinstance(node, ast.Call):
        return False
    maker = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return isinstance(node.func, ast.Call) or maker in _MAKERS


def _fixed(body: Sequence[ast.stmt], lines: Sequence[str], asked: Collection[str]) -> int:
    """Return how many statements stay: up to the last definition that is no test, and the last import that it reads.

    Where nothing but tests is defined, all of them are the program.
    """
    defining = [
        index + 1
        for index, node in enumerate(body)
        if bound_names([node]) & set(asked) or (_defined(node) and not _is_test(node))
    ]
    if not defining:
        return len(body)
    read = read_below("\n".join(lines[: body[defining[-1] - 1].end_lineno]))
    imports = [
        index + 1 for index, node in enumerate(body) if isinstance(node, _IMPORTS) and bound_names([node]) & read
    ]
    return max([*defining, *imports])


def _is_test(node: ast.stmt) -> bool:
    """Return whether a definition is a test, by its name or as a TestCase."""
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base).endswith("TestCase") for base in node.bases)
    return isinstance(node, _DEFINITIONS) and re.fullmatch(r"tests?(_.*)?", node.name) is not None


def _of_tests(node: ast.stmt) -> set[str]:
    """Return the names that an import binds of modules that programs are tried out with."""
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [node.module or ""]
    else:
        return set()
    return bound_names([node]) if all(name.partition(".")[0] in _OF_TESTS for name in modules) else set()


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
    """What the names of a program are.

    names: those that it defines. read: the globals that its functions read. filling: the functions that fill such.
    unknown: those that are nowhere. of_tests: modules that programs are tried out with. tried: variables of examples.
    """

    names: set[str]
    read: set[str]
    filling: set[str]
    unknown: set[str] = field(default_factory=set)
    of_tests: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)

    @cached_property
    def _trying(self) -> frozenset[str]:
        return _INPUT.union(self.names, self.of_tests, self.tried)

    def with_tried(self, behind: Sequence[ast.stmt]) -> _Uses:
        """Return it with the variables that the statements behind a program bind only by what tries it out.

        One example is made of another's variables: all of them are taken for such, until one proves to be none.
        """
        tried = bound_names(behind) - self.read - self.names
        for _ in range(_ROUNDS):
            uses = replace(self, tried=tried)
            other = {name for node in behind for name in uses._bound_otherwise(node)}
            if not tried & other:
                return uses
            tried = tried - other
        return self

    def _bound_otherwise(self, node: ast.stmt) -> set[str]:
        """Return the names that a statement binds to what may be the program's own, and be filled by another name."""
        bound = bound_names([node])
        if isinstance(node, (*_DEFINITIONS, *_IMPORTS)) or not self.only_try(node) or _mentions(node, self.filling):
            return bound
        sources = [
            (part.target, part.iter) if isinstance(part, ast.For) else (part.optional_vars, part.context_expr)
            for part in in_scope([node])
            if isinstance(part, (ast.For, ast.withitem))
        ]
        made_here = {"open", "range", "enumerate", "zip"}
        return {
            name
            for target, source in sources
            if target is not None
            and not (self._tries(source) or _is_literal(source) or _mentions(source, made_here - self.names))
            for name in bound_names([target])
        }

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
        if "" in roots:  # of what a call gives: `getcontext().prec = 3`
            return True
        return bool(bound_names([node]) & self.read or roots & (self.names | self.read))

    def only_try(self, node: ast.stmt) -> bool:
        """Return whether a statement only tries the program out."""
        match node:
            case ast.Assert() | ast.Pass() | ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                return True
            case ast.Break() | ast.Continue() | ast.Raise(exc=ast.Name(id="SystemExit")):
                return True
            case ast.Import() | ast.ImportFrom():
                return not bound_names([node]) & self.read
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return _is_test(node)
            case ast.AnnAssign(value=None):  # prose: `Note: works`; it binds nothing
                return True
            case ast.If() | ast.For() | ast.While():
                return all(map(self.only_try, [*node.body, *node.orelse]))
            case ast.With() | ast.Try():
                return all(map(self.only_try, node.body))
            case ast.Expr():
                return (
                    isinstance(node.value, ast.Constant)
                    or self._tries(node.value)
                    or _mentions(node.value, self.unknown)
                )
            case ast.AugAssign(target=ast.Name(id=name)):
                return name in self.tried
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return not self.need(node) and (self._tries(value) or _is_literal(value))
        return False

    def _tries(self, node: ast.expr) -> bool:
        """Return whether an expression calls the program, reads input, or is of what did."""
        if _mentions(node, self._trying):
            return True
        return any(
            isinstance(part, ast.Attribute) and part.attr in _OF_SYS and _root(part) == "sys" for part in ast.walk(node)
        )


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


def _mentions(node: ast.AST, names: Collection[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _is_literal(node: ast.expr) -> bool:
    """Return whether an expression is a value such as an example is called with."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        return False
    return True
