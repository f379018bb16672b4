"""Tests that a model writes for its own program, and the modules that it imports only to try the program out."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Collection, Sequence

from della_bench.scoring.code.names import bound_names

__all__ = [
    "DEFINITIONS",
    "IMPORTS",
    "idle_imports",
    "imports_from_elsewhere",
    "imports_itself",
    "imports_of_drivers",
    "own_tests",
]

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)

_NEVER_THERE = frozenset({"pytest", "hypothesis", "parameterized", "nose", "matplotlib", "seaborn"})  # not in a sandbox
_DRIVERS = _NEVER_THERE | {"unittest", "doctest", "time", "timeit", "argparse", "pdb"}
_ROUNDS = 8  # of looking which tests the program needs: the work is to grow with the length of a program
_TEST_NAME = re.compile(r"tests?(_.*)?")


def own_tests(body: Sequence[ast.stmt], asked: Collection[str]) -> set[ast.stmt]:
    """Return the definitions that are tests: by name or as a TestCase, and neither asked for nor read by the others.

    What registers a function (`@f.register`) is none, whatever its name.
    """
    defined = [node for node in body if isinstance(node, DEFINITIONS)]
    tests = {node: node.name for node in defined if node.name not in asked and _looks_like_test(node)}
    reads = {node: _names_in(node) for node in defined if tests}
    for _ in range(_ROUNDS):
        program = [node for node in defined if node not in tests]
        read = set[str]().union(*(reads[node] for node in program)) if tests else set()
        own = {node.name for node in program}
        left = {
            node: name
            for node, name in tests.items()
            if name not in read and not any(_names_in(decorator) & own for decorator in node.decorator_list)
        }
        if len(left) == len(tests):
            return set(tests)
        tests = left
    return set()


def _names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _looks_like_test(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    if any(_names_in(decorator) & _NEVER_THERE for decorator in node.decorator_list):  # @pytest.fixture
        return True
    if not isinstance(node, ast.ClassDef):
        return _TEST_NAME.fullmatch(node.name) is not None
    bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    if any(base.endswith("TestCase") for base in bases):
        return True
    methods = [part.name for part in node.body if isinstance(part, DEFINITIONS)]
    return node.name.startswith("Test") and not node.bases and any(map(_TEST_NAME.fullmatch, methods))


def imports_of_drivers(body: Sequence[ast.stmt], fixed: int, read: Collection[str]) -> set[str]:
    """Return the names that imports bind of modules that programs are tried out with.

    Behind the program, statement `fixed`, every module is one that is not Python's own and that no function reads.
    """
    names: set[str] = set()
    for number, node in enumerate(body):
        modules = _modules(node)
        if not modules:
            continue
        foreign = number >= fixed and not modules & sys.stdlib_module_names and not bound_names([node]) & set(read)
        if foreign or modules <= _DRIVERS:
            names |= bound_names([node])
    return names


def imports_itself(node: ast.stmt, defined: Collection[str]) -> bool:
    """Return whether a statement imports from a module nobody knows what the program defines itself.

    Tests begin so: `from solution import f`.
    """
    return imports_from_elsewhere(node) and bound_names([node]) <= {"*", *defined}


def imports_from_elsewhere(node: ast.stmt) -> bool:
    """Return whether a statement imports from a module that is not Python's own, which may not be there."""
    return isinstance(node, ast.ImportFrom) and not _modules(node) & sys.stdlib_module_names


def idle_imports(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """Return the imports that a program without its tests can do without and would only fail of.

    They are of modules for tests and plots, or of the program itself, on lines of their own.
    """
    imports = [node for node in body if isinstance(node, IMPORTS)]
    if all(_modules(node) <= sys.stdlib_module_names for node in imports):
        return []
    read = {part.id for node in body for part in ast.walk(node) if isinstance(part, ast.Name)}
    defined = {node.name for node in body if isinstance(node, DEFINITIONS)}
    lines = Counter(number for node in body for number in {node.lineno, node.end_lineno})
    return [
        node
        for node in imports
        if lines[node.lineno] == lines[node.end_lineno] == 1
        and (
            (_modules(node) <= _NEVER_THERE and not bound_names([node]) & read)
            or (imports_itself(node, defined) and "*" not in bound_names([node]))
        )
    ]


def _modules(node: ast.stmt) -> set[str]:
    """Return the modules that a statement imports, up to their first dot; "" for a relative one."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {"" if node.level else (node.module or "").partition(".")[0]}
    return set()
