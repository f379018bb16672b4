"""What numba keeps of compiled loops: code of changed files never runs again, and nothing piles up."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import della_bench
from della_bench.checkpoint import product
from della_bench.merge.kernels import cpu_loops

CALLED = """
from della_bench.compiled import compiler

compiled = compiler(__file__, "loop_*.py")

@compiled
def step(a):
    return a + 1
"""
CALLER = """
from loop_called import compiled, step

@compiled
def run(a):
    return 10 * step(a)
"""


@pytest.fixture
def loops(tmp_path, monkeypatch):
    """A folder with a loop and the file of the loop that it calls; numba's folders for its cache lie nearby."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python's own cache looks at seconds and sizes
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    folder = tmp_path / "loops"
    folder.mkdir()
    (folder / "loop_called.py").write_text(CALLED)
    (folder / "loop_caller.py").write_text(CALLER)
    monkeypatch.syspath_prepend(folder)
    return folder


def fresh():
    """Return the caller's loop as a new process would import it."""
    for name in ("loop_called", "loop_caller"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("loop_caller").run


def entries(folder):
    return sorted(path.name for path in folder.rglob("*.nb[ic]"))


def change(file, old, new):
    """Replace a text and leave size and time of change as they were."""
    before = file.stat()
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_change_in_a_called_file_brings_the_new_values(loops):
    assert fresh()(1) == 20
    change(loops / "loop_called.py", "a + 1", "a + 2")
    assert fresh()(1) == 30
    change(loops / "loop_called.py", "a + 2", "a + 1")
    assert fresh()(1) == 20


def test_what_did_not_change_is_not_compiled_again(loops):
    assert fresh()(1) == 20
    kept = entries(loops)
    for name in ("loop_called.py", "loop_caller.py"):
        os.utime(loops / name)  # as a checkout or a copy does
    run = fresh()
    assert run(1) == 20
    assert (sum(run.stats.cache_hits.values()), sum(run.stats.cache_misses.values())) == (1, 0)
    assert entries(loops) == kept


def test_entries_of_other_contents_are_removed(loops):
    fresh()(1)
    count = len(entries(loops))
    for number in range(2, 5):
        change(loops / "loop_called.py", f"a + {number - 1}", f"a + {number}")
        # Lines move, by which numba would name its files.
        (loops / "loop_caller.py").write_text(f"# {number}\n" * number + CALLER)
        assert fresh()(1) == 10 * (1 + number)
        assert len(entries(loops)) == count


def test_where_the_source_cannot_be_written_beside_the_users_folder_serves(loops, tmp_path):
    (loops / "__pycache__").write_text("no folder")
    assert fresh()(1) == 20
    assert not entries(loops)
    assert entries(tmp_path / "user")
    change(loops / "loop_called.py", "a + 1", "a + 2")
    assert fresh()(1) == 30


def test_numbas_own_variable_names_the_folder(loops, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "named"))
    assert fresh()(1) == 20
    assert not entries(loops)
    assert entries(tmp_path / "named")


def test_processes_that_compile_at_once_do_not_disturb_each_other(loops):
    paths = [str(loops), str(Path(della_bench.__file__).parent.parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", "from loop_caller import run; print(run(1), run(1.0))"]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].split() for process in both] == [["20", "20.0"]] * 2
    assert fresh()(1) == 20


@pytest.mark.parametrize(("module", "pattern"), [(cpu_loops, "cpu_*.py"), (product, "product.py")])
def test_a_family_holds_every_file_of_ours_that_its_loops_take_something_from(module, pattern):
    """Of a family, files without a loop may import what they like."""
    folder = Path(module.__file__).parent
    package = module.__name__.rpartition(".")[0]
    files = {f"{package}.{path.stem}": path for path in folder.glob(pattern)}
    assert module.__name__ in files
    for path in files.values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            whole if (whole := f"{node.module}.{alias.name}") in files else node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("della_bench")
            for alias in node.names
        }
        if any(isinstance(node, ast.FunctionDef) and node.decorator_list for node in tree.body):
            assert imported <= {*files, "della_bench.compiled"}
