"""Leaving off what models write behind a program: a `__main__` block, example calls, their own tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence

from della_bench.scoring.code.names import bound_names, needed_names, read_below
from della_bench.scoring.code.own_tests import (
    DEFINITIONS,
    IMPORTS,
    idle_imports,
    imports_itself,
    imports_of_drivers,
    own_tests,
)
from della_bench.scoring.code.parsing import parsed
from della_bench.scoring.code.uses import ASSIGNMENTS, Uses, filling_functions

__all__ = ["defines", "without_examples"]

_HEADING = re.compile(r"^#+\s*(?:examples?|samples?|usage|tests?|testing|driver)\b", re.IGNORECASE)
_ALIASES = (ast.Lambda, ast.Attribute, ast.Name)  # f = lambda x: x;  f = math.gcd;  f = g
_MAKERS = frozenset({"lru_cache", "cache", "partial", "vectorize"})  # f = lru_cache(g)


def without_examples(
    program: str, prompt: str = "", asked: Collection[str] = (), tree: ast.Module | None = None
) -> str:
    """Return `program` without the statements at its end that only try it out.

    prompt: source that stands before it. asked: names that the tests need. tree: what both together parse to, where it
    is known. Unchanged where they do not parse or define nothing, and where nothing would be left.

    Left off are a `__main__` block, assertions, calls of `print` and of functions that the program defines, loops and
    assignments made of such, what reads input or a file or is done to what was read, what raises, tests of the model's
    own (`test_...`, TestCase) with their imports, words of prose that happen to parse (`Complexity: O(n)`), and all
    statements behind a comment such as "# Example usage" or "# Test examples".
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
    end = _end(body, lines, names, wanted)
    kept = lines[: body[end - 1].end_lineno if end < len(body) else None]
    # Behind a prompt there are no lines to take out of: they are its own, or stand inside its function.
    for node in reversed([] if prompt else idle_imports(body[:end])):
        del kept[node.lineno - 1 : node.end_lineno]
    shorter = "\n".join(kept)[len(prompt) :]
    return shorter if shorter.strip() else program


def _end(body: Sequence[ast.stmt], lines: list[str], names: set[str], asked: Collection[str]) -> int:
    """Return how many statements are the program, which defines `names`; the others try it out."""
    tests = own_tests(body, asked)
    fixed = _fixed(body, lines, asked, tests)
    if fixed == len(body):
        return fixed
    source = "\n".join(lines)
    read = read_below(source)
    is_open = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in body)
    uses = Uses(
        names,
        read,
        filling=filling_functions(body, asked),
        unknown=set() if is_open else needed_names(source),
        of_tests=imports_of_drivers(body, fixed, read),
        tests=tests,
        fillable=bound_names(node for node in body if isinstance(node, ASSIGNMENTS)) & read - set(asked),
    ).with_tried(body[fixed:])
    heading = _heading(lines, body[fixed - 1].end_lineno or 0)
    end = len(body)
    while end > fixed and not uses.need(body[end - 1]):
        if body[end - 1].lineno <= heading and not uses.only_try(body[end - 1]):
            break
        end -= 1
    return end


def defines(node: ast.stmt) -> bool:
    """Return whether a statement defines a function, a class, or a name for what may be one."""
    return bool(_defined(node))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, DEFINITIONS):
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


def _fixed(body: Sequence[ast.stmt], lines: Sequence[str], asked: Collection[str], tests: Collection[ast.stmt]) -> int:
    """Return how many statements stay: up to the last definition that is no test, and the last import that it reads.

    Where nothing but tests is defined, all of them are the program.
    """
    defined = {node.name for node in body if isinstance(node, DEFINITIONS)}
    own = [(place, node) for place, node in enumerate(body, start=1) if not imports_itself(node, defined)]
    defining = [
        place for place, node in own if bound_names([node]) & set(asked) or (_defined(node) and node not in tests)
    ]
    if not defining:
        return len(body)
    read = read_below("\n".join(lines[: body[defining[-1] - 1].end_lineno]))
    imports = [place for place, node in own if isinstance(node, IMPORTS) and bound_names([node]) & read]
    return max([*defining, *imports])


def _heading(lines: list[str], first: int) -> float:
    """Return the number, from 1, of the first line behind line `first` that is a heading, or infinity."""
    return next(
        (number for number, line in enumerate(lines[first:], start=first + 1) if _HEADING.match(line)), float("inf")
    )
