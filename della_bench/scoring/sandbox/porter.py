"""The host's end of the porter: a process that starts sandboxes, ends them, and gives each its code."""

from __future__ import annotations

import base64
import contextlib
import functools
import marshal
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal

from della_bench.errors import SandboxError
from della_bench.scoring.sandbox.inside import frames
from della_bench.scoring.sandbox.inside.porter import CONTROL
from della_bench.scoring.sandbox.inside.rows import HOST_NAME, LevelRow, Setup, Tree
from della_bench.scoring.sandbox.interpreter import DEVICES, Interpreter, find_interpreter
from della_bench.scoring.sandbox.scratch import Scratch
from della_bench.scoring.sandbox.types import LevelName

__all__ = ["START_SECONDS", "BoxFaultError", "Porter", "Role"]

Role = Literal["candidate", "tests"]

PACKAGE = "della_bench.scoring.sandbox.inside"
# In the order in which they import each other.
COMMON_PARTS = ("system", "frames", "rows", "seccomp", "landlock", "setorder", "codec", "program", "worker")
ROLE_PARTS: dict[Role, tuple[str, ...]] = {
    "candidate": ("candidate",),
    "tests": ("handles", "update", "remote", "checker"),
}
# What answers to short problems import most; a fresh interpreter imports what its one program asks for.
PRELOADED: tuple[str, ...] = (
    *("bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools", "math"),
    *("operator", "random", "re", "statistics", "string", "typing"),
)
START_SECONDS = 120.0  # a loaded machine starts a process late; a process that hangs is a fault all the same
WORK, STAGE = "/work", "/tmp"
WITH_NAMESPACES = ("bubblewrap", "namespaces")

# Runs without site and with an empty environment but for the hash seed, which -I would ignore: a program that depends
# on the order of a set is to come to one verdict. The code comes over the control socket, compiled.
BOOT = f"""
import base64, json, marshal, os, socket, sys, types
sys.path[:] = [path for path in sys.path if path]
os.environ.clear()
control = socket.socket(fileno=int(sys.argv[1]))
os.set_inheritable(control.fileno(), False)
length, data = int.from_bytes(control.recv(4, socket.MSG_WAITALL), "big"), b""
while len(data) < length:
    data += control.recv(length - len(data)) or sys.exit("no code came")
message = json.loads(data)
name = ""
for part in {PACKAGE!r}.split("."):
    name = name + "." + part if name else part
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
package = sys.modules[name]
for part, code in message["parts"]:
    module = sys.modules[name + "." + part] = types.ModuleType(name + "." + part)
    setattr(package, part, module)
    exec(marshal.loads(base64.b64decode(code)), module.__dict__)
del data
exec(message["main"])
"""
PORTER_MAIN = "package.porter.main(control, message['setup'])"
ENTER_MAIN = "package.enter.enter(control, message['tree'], message['argv'], message['environment'])"
WORKER_MAIN = """
import builtins
builtins.exit = builtins.quit = sys.exit  # what site would have made of them
package.worker.serve(control, message["level"])
"""
BUBBLEWRAP = (
    ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
    # The worker enters a process and a mount namespace for each program; what the program becomes has no capability.
    ("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--uid", "1000", "--gid", "1000"),
    ("--clearenv", "--dir", WORK, "--hostname", HOST_NAME),
)


class BoxFaultError(Exception):
    """A sandbox did not do its part: it ended, or said nothing in time."""


class Porter:
    """A process that starts sandboxes at one level and, when closed, has ended and waited for all of them.

    A context manager.
    """

    def __init__(self, level: LevelName) -> None:
        """Start it. Raises SandboxError where the level cannot be set up."""
        self.level = level
        self._interpreter = find_interpreter()
        self._lock = threading.Lock()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the porter)
        self._scratch: Scratch | None = None
        self._control, theirs = socket.socketpair()
        self._control.settimeout(START_SECONDS)
        command = [self._interpreter.executable, "-s", "-S", "-c", BOOT, str(theirs.fileno())]
        environment = {"LD_LIBRARY_PATH": self._interpreter.library_path}
        with theirs:
            self._process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        self._stage = ""
        setup: Setup = {
            "files": _shown(self._interpreter, ""),
            "own_user": level != "none" and os.geteuid() == 0,  # RLIMIT_NPROC does not hold for root
            "must_gather": level in WITH_NAMESPACES,
        }
        parts = _parts("system", "frames", "rows", "porter")
        try:
            frames.send(self._control, {"parts": parts, "main": PORTER_MAIN, "setup": setup})
            self._stage = STAGE if self._reply("gathered") else ""
            if level not in WITH_NAMESPACES and not self._stage:
                self._scratch = Scratch()
        except BoxFaultError as error:
            self.close()
            raise SandboxError(f"the level {level} cannot be set up: {error}") from error
        except BaseException:
            self.close()
            raise

    def start(self, theirs: socket.socket) -> int:
        """Start a sandbox that has the socket `theirs`, and return its number. Raises BoxFaultError."""
        request = {"start": self._command(), "environment": self._environment(self._outer_stage)}
        with self._lock:
            self._send(request, (theirs.fileno(),))
            return int(self._reply("box"))

    def kill(self, number: int) -> None:
        """End a sandbox that `start` started. Raises BoxFaultError."""
        with self._lock:
            self._send({"kill": number})
            self._reply("killed")

    def messages(self, role: Role, *, fresh: bool) -> list[dict[str, Any]]:
        """Return what a sandbox that was just started is to be told first."""
        place = self._interpreter
        readable = [self._outer_stage + path for path in (*place.readable(), *DEVICES)]
        level: LevelRow = {
            "name": self.level,
            "namespaces": self.level in WITH_NAMESPACES,
            "readable": readable,
            "devices": DEVICES,
            "preload": () if fresh else PRELOADED,
            "folder": self._scratch.path if self._scratch else self._stage + WORK,
        }
        worker = {"parts": _parts(*COMMON_PARTS, *ROLE_PARTS[role]), "main": WORKER_MAIN, "level": level}
        if not self._enters:
            return [worker]
        tree: Tree = {
            "files": _shown(place, self._stage),
            "hidden": place.hidden,
            "links": place.links,
            "work": WORK,
        }
        enter = {"parts": _parts("system", "rows", "enter"), "main": ENTER_MAIN, "tree": tree}
        return [{**enter, "argv": self._python(""), "environment": self._environment("")}, worker]

    def complaint(self) -> str:
        """Return the last line that the porter or a sandbox wrote to standard error."""
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """End everything at once and wait for it; threads that talk to the porter get a BoxFaultError."""
        with contextlib.suppress(OSError):  # it ended first
            self._control.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._control.close()
        self._complaints.close()
        if self._scratch:
            self._scratch.close()

    def __enter__(self) -> Porter:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:  # noqa: D105
        self.close()

    @property
    def _enters(self) -> bool:
        return self.level == "namespaces"

    @property
    def _outer_stage(self) -> str:
        """Where a sandbox's first process finds the interpreter: bwrap shows it to that under its own name."""
        return "" if self.level == "bubblewrap" else self._stage

    def _python(self, stage: str) -> list[str]:
        return [stage + self._interpreter.executable, "-s", "-S", "-c", BOOT, str(CONTROL)]

    def _environment(self, stage: str) -> dict[str, str]:
        paths = self._interpreter.library_path.split(":")
        return {"LD_LIBRARY_PATH": ":".join(stage + path for path in paths), "PYTHONHASHSEED": "0"}

    def _command(self) -> list[str]:
        if self.level != "bubblewrap":
            return self._python(self._outer_stage)
        program = shutil.which("bwrap")
        if program is None:
            raise BoxFaultError("bwrap is not installed")
        binds = [
            ("--dev-bind" if to in DEVICES else "--ro-bind", of, to)
            for of, to in _shown(self._interpreter, self._stage)
        ]
        covers = [
            part for folder in self._interpreter.hidden for part in (("--tmpfs", folder), ("--remount-ro", folder))
        ]
        links = [("--symlink", target, path) for target, path in self._interpreter.links]
        settings = [("--setenv", name, value) for name, value in self._environment("").items()]
        parts = [*BUBBLEWRAP, *settings, *links, *binds, *covers, ("--remount-ro", "/"), ("--chdir", "/"), ("--",)]
        return [os.path.realpath(program), *(word for part in parts for word in part), *self._python("")]

    def _send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        try:
            frames.send(self._control, message, descriptors)
        except OSError as error:
            raise BoxFaultError(f"the porter is gone ({error.strerror})") from error

    def _reply(self, key: str) -> Any:
        try:
            message = frames.receive(self._control)
        except (EOFError, OSError) as error:
            raise BoxFaultError(f"the porter ended: {self.complaint()}") from error
        if key not in message:
            raise BoxFaultError(str(message.get("fault", message)))
        return message[key]


def _shown(interpreter: Interpreter, stage: str) -> list[tuple[str, str]]:
    """Return (source, target) of all files of a sandbox; where they were gathered below `stage`, they lie there."""
    files = [*interpreter.files, *((device, device) for device in DEVICES)]
    return [(stage + target if stage else source, target) for source, target in files]


@functools.cache
def _parts(*names: str) -> list[tuple[str, str]]:
    """Return the named modules of the package `inside`, compiled, in their order."""
    folder = Path(__file__).parent / "inside"
    texts = [(name, (folder / f"{name}.py").read_text("utf-8")) for name in names]
    codes = [(name, compile(text, f"<sandbox>/{name}.py", "exec", dont_inherit=True)) for name, text in texts]
    return [(name, base64.b64encode(marshal.dumps(code)).decode("ascii")) for name, code in codes]
