"""Names: which ones a source binds, which ones it needs from elsewhere, and which ones a benchmark's tests ask for."""

from __future__ import annotations

import ast
import builtins
import symtable
import warnings
from collections.abc import Iterable, Iterator, Sequence

from della_bench.scoring.code.parsing import parsed

__all__ = ["bound_names", "in_scope", "is_stub", "names_asked_for", "needed_names", "read_below"]

_ALWAYS_THERE = frozenset(dir(builtins)) | {"__name__", "__file__", "__builtins__", "__annotations__"}
_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def bound_names(body: Iterable[ast.AST]) -> set[str]:
    """Return the names that statements bind in their own scope, be it inside of `if`, `for`, `with` or `try`."""
    return {name for node in in_scope(body) for name in _names_of(node)}


def in_scope(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield all nodes below `body` but those inside of functions, classes, lambdas and comprehensions."""
    open_nodes = list(body)
    while open_nodes:
        node = open_nodes.pop()
        yield node
        if not isinstance(node, (*_DEFINITIONS, *_OWN_SCOPE)):
            open_nodes.extend(ast.iter_child_nodes(node))


def _names_of(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Import(names=aliases):
            return [alias.asname or alias.name.partition(".")[0] for alias in aliases]
        case ast.ImportFrom(names=aliases):
            return [alias.asname or alias.name for alias in aliases]
        case ast.Name(id=name, ctx=ast.Store()):
            return [name]
    return []


def needed_names(source: str) -> set[str]:
    """Return the global names that `source` reads and neither binds nor finds among the builtins.

    Empty where the source cannot be compiled.
    """
    tables = _scopes(source)
    bound = {
        symbol.get_name()
        for table in tables
        for symbol in table.get_symbols()
        if (table is tables[0] or symbol.is_declared_global())
        and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace())
    }
    read = {
        symbol.get_name()
        for table in tables
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (table is tables[0] or symbol.is_global())
    }
    return read - bound - _ALWAYS_THERE


def read_below(source: str) -> set[str]:
    """Return the global names that functions and classes of `source` read: parameters and locals are none.

    Empty where the source cannot be compiled.
    """
    return {
        symbol.get_name()
        for table in _scopes(source)[1:]
        for symbol in table.get_symbols()
        if symbol.is_referenced() and symbol.is_global()
    }


def _scopes(source: str) -> list[symtable.SymbolTable]:
    """Return the symbol tables of a source, the module's first; none where it cannot be compiled."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables = [symtable.symtable(source, "<program>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    for table in tables:  # grows on the way: a walk without recursion
        tables.extend(table.get_children())
    return tables


def names_asked_for(tests: Sequence[str], setup: str = "") -> frozenset[str]:
    """Return the names that tests, with their setup code, expect a program to define.

    Where that is none the program is to define what is a builtin, too: those that the tests call.
    """
    source = "\n".join([setup, *tests]).replace("\r\n", "\n")
    if needed := needed_names(source):
        return frozenset(needed)
    tree = parsed(source)
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call)) if isinstance(tree, ast.Module) else ()
    return frozenset(function.id for function in calls if isinstance(function, ast.Name))


def is_stub(node: ast.AST) -> bool:
    """Return whether a function's body is only a docstring, `pass`, `...`, `return None` or NotImplementedError."""
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and all(map(_does_nothing, node.body))


def _does_nothing(node: ast.stmt) -> bool:
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.Return(value=None | ast.Constant(value=None)):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
            return True
    return False
