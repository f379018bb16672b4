"""What each statement behind a program is to it: one that it needs, or one that only tries it out."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from della_bench.scoring.code.names import bound_names, in_scope
from della_bench.scoring.code.own_tests import DEFINITIONS, IMPORTS, imports_itself

__all__ = ["ASSIGNMENTS", "Uses", "filling_functions"]

ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_ROUNDS = 8  # of looking which variables are examples: the work is to grow with the length of a program
_READING = frozenset({"input", "raw_input"})
_INPUT = _READING | {"print", "open", "exit", "quit", "breakpoint"}
_OF_SYS = frozenset({("sys", "argv"), ("sys", "stdin"), ("sys", "exit"), ("os", "_exit")})
_MUTATORS = frozenset({"append", "extend", "insert", "add", "update", "setdefault", "appendleft", "extendleft"})
# What sets how Python itself works: the program may rely on it, though it reads no name that is set.
_SETTINGS = frozenset({"setrecursionlimit", "set_int_max_str_digits", "stack_size", "setcontext"})


def filling_functions(body: Sequence[ast.stmt], asked: Collection[str]) -> set[str]:
    """Return the functions, but those that are asked for, that use a variable of the module, or call what fills one.

    Methods that fill their class are among them, as "Class.method". No function that reads input is: there is none, so
    that a call of it fails.
    """
    variables = bound_names(node for node in body if isinstance(node, ASSIGNMENTS))
    functions = {node.name: node for node in body if isinstance(node, DEFINITIONS) and node.name not in asked}
    called = {
        name: {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} for name, node in functions.items()
    }
    silent = [name for name in functions if not called[name] & _READING]
    stores = {name for name in silent if any(_fills(part, variables) for part in ast.walk(functions[name]))}
    uses = {name for name in silent if called[name] & variables}
    methods = {
        f"{node.name}.{method.name}"
        for node in body
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and any(_fills(part, {"cls"}) for part in ast.walk(method))
    }
    return methods | uses | stores | {name for name in silent if called[name] & stores}


def _fills(node: ast.AST, variables: Collection[str]) -> bool:
    """Return whether a node of a function declares a global, or fills a variable of the module."""
    match node:
        case ast.Global():
            return True
        case ast.Subscript(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
            return _root(node) in variables
        case ast.Call(func=ast.Attribute(attr=attr)):
            return attr in _MUTATORS and _root(node.func) in variables
    return False


@dataclass(frozen=True)
class Uses:
    """What the names of a program are.

    names: those that it defines. read: the globals that its functions read. filling: the functions that fill such.
    unknown: those that are nowhere. of_tests: modules that programs are tried out with. tests: definitions that are
    tests. fillable: variables that functions read. tried: variables of examples.
    """

    names: set[str]
    read: set[str]
    filling: set[str]
    unknown: set[str] = field(default_factory=set)
    of_tests: set[str] = field(default_factory=set)
    tests: Collection[ast.stmt] = ()
    fillable: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)

    @cached_property
    def _trying(self) -> frozenset[str]:
        return _INPUT.union(self.names, self.of_tests, self.tried)

    def with_tried(self, behind: Sequence[ast.stmt]) -> Uses:
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
        if isinstance(node, (*DEFINITIONS, *IMPORTS)) or not self.only_try(node) or _mentions(node, self.filling):
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
        if isinstance(node, (ast.Expr, *ASSIGNMENTS)) and self._calls_filling(node):
            return True
        match node:
            case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                return False
            case ast.If() | ast.For() | ast.While() | ast.With() | ast.Try() | ast.Match():
                return bool(bound_names([node]) & self.read) or any(map(self.need, _statements_in(node)))
            case ast.Expr(value=ast.Call(func=ast.Name(id="setattr"), args=[target, *_])):
                return _root(target) in self.names | self.read
            case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))) if name in _SETTINGS:
                return True
            case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=args)):
                given = {part.id for part in args if isinstance(part, ast.Name)}
                return name in self.filling or (name in self.names and bool(given & self.fillable))
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr))):
                return name in self.read - self.names or f"{name}.{attr}" in self.filling  # else a method is tried
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Attribute() | ast.Subscript() as filled))):
                return _root(filled) in self.names | self.read
        if not isinstance(node, ASSIGNMENTS):
            return False
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        roots = {_root(target) for target in targets if isinstance(target, (ast.Attribute, ast.Subscript))}
        if "" in roots:  # of what a call gives: `getcontext().prec = 3`
            return True
        return bool(bound_names([node]) & self.read or roots & (self.names | self.read))

    def _calls_filling(self, node: ast.stmt) -> bool:
        """Return whether a statement calls, without an argument and wherever, a function that fills: `ok = fill()`."""
        calls = (part for part in ast.walk(node) if isinstance(part, ast.Call) and not (part.args or part.keywords))
        return any(isinstance(call.func, ast.Name) and call.func.id in self.filling for call in calls)

    def only_try(self, node: ast.stmt) -> bool:
        """Return whether a statement only tries the program out."""
        match node:
            case ast.Assert() | ast.Pass() | ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                return True
            case ast.Break() | ast.Continue() | ast.Raise():
                return True
            case ast.Import() | ast.ImportFrom():
                return not bound_names([node]) & self.read or imports_itself(node, self.names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return node in self.tests
            case ast.AnnAssign(value=None):  # prose: `Note: works`; it binds nothing
                return True
            case ast.If() | ast.For() | ast.While():
                return all(map(self.only_try, [*node.body, *node.orelse]))
            case ast.With() | ast.Try():
                return all(map(self.only_try, node.body))
            case ast.Match():
                return all(map(self.only_try, _statements_in(node)))
            case ast.Expr():
                return isinstance(node.value, ast.Constant) or self._tries(node.value)
            case ast.AugAssign(target=ast.Name(id=name)):
                return name in self.tried
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return not self.need(node) and self._fills_tried(node) and (self._tries(value) or _is_literal(value))
        return False

    def _fills_tried(self, node: ast.Assign | ast.AnnAssign) -> bool:
        """Return whether an assignment sets entries and attributes of nothing but variables of examples."""
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(
            _root(target) in self._trying for target in targets if isinstance(target, (ast.Attribute, ast.Subscript))
        )

    def _tries(self, node: ast.expr) -> bool:
        """Return whether an expression calls the program, reads input, or is of what did; or is no code: prose."""
        if _mentions(node, self._trying) or _mentions(node, self.unknown):
            return True
        return any(isinstance(part, ast.Attribute) and (_root(part), part.attr) in _OF_SYS for part in ast.walk(node))


def _statements_in(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield the statements one level below another."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.stmt):
            yield part
        elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
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
