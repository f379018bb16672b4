"""What runs in a worker's process: it holds one object and calls its methods.

The class travels to the hosts by its code, not by its name: so it can tell a host with another release of this package,
or with none, what is wrong. At its top it imports the standard library alone.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["PROGRESS", "Process", "Reply"]

PROGRESS = b"della_bench progress"  # namespace of Ray's key-value store
_PAUSE = 0.3  # seconds between two reports of progress

Reply = tuple[str, Any]
"""("value", what a method returned), ("error", what it raised for people) or ("broken", any other error in words)."""


class Process:
    """One worker, as Ray starts it."""

    def __init__(self, key: str, log: str, folder: str, environment: Mapping[str, str]) -> None:
        """key: under which progress is told. log: a file that takes all output, added to what lies there; a name
        without a folder is put into a new folder for temporary files.

        folder: the driver's working directory, taken over where this host has it. environment: variables that are set
        where they are not set on this host.
        """
        self._key = key.encode()
        self._log = log if os.path.isabs(log) else os.path.join(tempfile.mkdtemp(prefix="della_bench-"), log)
        self._held: Any = None
        self._told = 0.0
        Path(self._log).parent.mkdir(parents=True, exist_ok=True)
        output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name, value in environment.items():
            os.environ.setdefault(name, value)
        if os.path.isdir(folder):
            os.chdir(folder)
            if folder not in sys.path:
                sys.path.append(folder)

    def describe(self, packages: Sequence[str]) -> dict[str, Any]:
        """Return host, process, node and log, and the versions of Python and of packages."""
        import ray

        versions = {"python": platform.python_version()}
        for package in packages:
            try:
                own = package == "della_bench"
                versions[package] = import_module(package).__version__ if own else version(package)
            except (ImportError, PackageNotFoundError):
                versions[package] = "not installed"
        node = ray.get_runtime_context().get_node_id()
        return {"host": platform.node(), "pid": os.getpid(), "node": node, "log": self._log, "versions": versions}

    def start(self, make: bytes) -> Reply:
        """Make the object: `make` is pickled, and is called with what takes progress (what, done, total)."""
        from ray import cloudpickle

        return self._reply(lambda: self._make(cloudpickle.loads(make)))

    def call(self, method: str, arguments: Sequence[Any]) -> Reply:
        """Call a method of the object."""
        return self._reply(lambda: getattr(self._held, method)(*arguments))

    def _make(self, make: Callable[[Callable[[str, int, int], None]], Any]) -> None:
        self._held = make(self._tell)

    def _reply(self, act: Callable[[], Any]) -> Reply:
        try:
            return "value", act()
        except Exception as error:  # it is told to the driver, which decides
            traceback.print_exc()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            errors = sys.modules.get("della_bench.errors")
            if errors is not None and isinstance(error, errors.DellaBenchError):
                return "error", error
            return "broken", f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"

    def _tell(self, what: str, done: int, total: int) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        if time.monotonic() - self._told > _PAUSE:
            self._told = time.monotonic()
            _internal_kv_put(self._key, f"{done}/{total} {what}".encode(), namespace=PROGRESS)
