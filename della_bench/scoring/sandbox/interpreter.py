"""The files that a Python interpreter needs to run, so that a sandbox can hold these and no others."""

from __future__ import annotations

import functools
import json
import os
import struct
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from della_bench.errors import SandboxError

__all__ = ["DEVICES", "Interpreter", "find_interpreter"]

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

# Loads every compiled module of the standard library and prints the libraries that this took.
# Terminals, windows and networks are out of reach in there: what only these need is left out.
_LIST_LIBRARIES = """
SKIPPED = ("_test", "xx", "_xx", "_tkinter", "_curses", "readline", "nis", "_ssl", "_dbm", "_gdbm")
import importlib, json, os, sys
for folder in sys.path:
    for name in os.listdir(folder) if folder.endswith("lib-dynload") else ():
        module = name.partition(".")[0]
        if not module.startswith(SKIPPED):
            try:
                importlib.import_module(module)
            except ImportError:
                pass
with open("/proc/self/maps") as maps:
    paths = {line.split(maxsplit=5)[5].strip() for line in maps if "/" in line}
print(json.dumps(sorted(path for path in paths if ".so" in path)))
"""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter's files.

    executable: its path, inside and outside.
    files: (source, target) of files and folders to show, read-only.
    hidden: folders below those that are no part of the standard library.
    links: (target, path) of symbolic links to make.
    library_path: where its libraries are, for LD_LIBRARY_PATH.
    """

    executable: str
    files: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    library_path: str

    def readable(self) -> list[str]:
        """Return what of this a program may read, without what is hidden."""
        paths: list[str] = []
        for source, _ in self.files:
            inner = [folder for folder in self.hidden if folder.startswith(source + "/")]
            if inner:
                paths += [str(path) for path in Path(source).iterdir() if str(path) not in inner and path.exists()]
            else:
                paths.append(source)
        return paths


@functools.cache
def find_interpreter() -> Interpreter:
    """Return the interpreter that this process's virtual environment, if any, was made from.

    Raises SandboxError where it cannot be run.
    """
    executable = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    command = [executable, "-s", "-S", "-c", _LIST_LIBRARIES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={}, cwd="/", timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"the interpreter {executable} cannot be run: {error}") from error
    base = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
    folders = sorted({os.path.realpath(sysconfig.get_path(name, vars=base)) for name in ("stdlib", "platstdlib")})
    folders = [path for path in folders if not any(path.startswith(other + "/") for other in folders)]
    libraries = [path for path in json.loads(done.stdout) if not any(path.startswith(f + "/") for f in folders)]
    files = {executable: executable, **{path: path for path in folders}}
    files.update({path: path for path in libraries})
    loader = _loader(executable)
    if loader:
        files[os.path.join(os.path.realpath(os.path.dirname(loader)), os.path.basename(loader))] = os.path.realpath(
            loader
        )
    names = ("site-packages", "dist-packages", "test", "idlelib")
    return Interpreter(
        executable=executable,
        files=tuple((source, target) for target, source in files.items()),
        hidden=tuple(f"{folder}/{name}" for folder in folders for name in names if os.path.isdir(f"{folder}/{name}")),
        links=(
            *((os.readlink(path), path) for path in ("/lib", "/lib32", "/lib64") if os.path.islink(path)),
            *((os.path.basename(path), link) for path in libraries for link in _links_to(path)),
        ),
        library_path=":".join(dict.fromkeys(os.path.dirname(path) for path in libraries)),
    )


def _links_to(library: str) -> list[str]:
    """Return the links beside the library that lead to it: programs know it by their names."""
    folder = os.path.dirname(library)
    stem = os.path.basename(library).partition(".so")[0].rstrip("0123456789.-")
    links = [entry.path for entry in os.scandir(folder) if entry.name.startswith(stem) and entry.is_symlink()]
    return [link for link in links if os.path.realpath(link) == library]


def _loader(executable: str) -> str:
    """Return the program interpreter that the ELF file names, or nothing."""
    with open(executable, "rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return ""
        (offset,) = struct.unpack_from("<Q", header, 0x20)
        size, count = struct.unpack_from("<HH", header, 0x36)
        for at in range(count):
            file.seek(offset + at * size)
            entry = file.read(size)
            if struct.unpack_from("<I", entry)[0] == 3:  # PT_INTERP
                start, length = struct.unpack_from("<Q", entry, 8)[0], struct.unpack_from("<Q", entry, 32)[0]
                file.seek(start)
                return file.read(length).rstrip(b"\0").decode()
    return ""
