"""The order of the rooms: imports run one way, and no module reaches into another's private names.

Imports inside functions count, too: they only put off when a module is loaded, not what depends on what.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import della_bench

PACKAGE = Path(della_bench.__file__).parent
# From the ground up: a room imports from those in lines above its own, and from nothing beside or below it.
ROOMS = [
    {
        "asynchronous",
        "benchmarks",
        "errors",
        "packages",
        "suggest",
        "resources",
        "thoughts",
        "visible",
        "zoo",
        "_version",
        "compiled",
    },
    {"devices", "jsonfiles", "lock", "plugin", "workers"},
    {"_autoload", "data", "spec"},
    {"checkpoint", "results"},
    {"merge", "scoring", "judging"},
    {"models"},
    {"run"},
    {"demo", "search"},
    {"cli"},
]
HEIGHT = {room: height for height, rooms in enumerate(ROOMS) for room in rooms}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}


def imports(name: str) -> Iterator[tuple[str, str]]:
    """Yield (module, imported name or ""): for `from a.b import c` the module a.b.c where that is one."""
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole, "") if whole in MODULES else (node.module, alias.name)


def own_imports(name: str) -> list[tuple[str, str]]:
    return [(module, what) for module, what in imports(name) if module.split(".")[0] == "della_bench"]


def room(module: str) -> str:
    return [*module.split("."), ""][1]


def test_every_room_has_its_place_in_the_order():
    assert {room(module) for module in MODULES} - {""} <= HEIGHT.keys()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_run_down(name):
    here = room(name)
    up = [
        module
        for module, _ in own_imports(name)
        if here and room(module) not in ("", here) and HEIGHT[room(module)] >= HEIGHT[here]
    ]
    assert not up


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_private_name_of_another_module_is_imported(name):
    private = [f"{module}.{what}" for module, what in own_imports(name) if what.startswith("_") and what[1] != "_"]
    assert not private


def test_no_modules_import_each_other():
    graph = {name: {module for module, _ in own_imports(name)} - {"della_bench"} for name in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
