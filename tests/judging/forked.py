"""alpaca_eval's process, forked from one that has imported alpaca_eval: the import takes a processor three seconds.

The command line starts it as it always does; so do the tests of `tests/cli/test_judge_alpaca_eval.py`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, Any

import pytest

from della_bench.judging.alpaca import process

__all__ = ["forked_alpaca_eval", "origin"]

_LARGEST = 1 << 20  # bytes of an environment


@pytest.fixture(scope="session")
def origin() -> Iterator[socket.socket]:
    """Start the process that the others are forked from; return the line to it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.judging.forked", str(its.fileno())]
    started = subprocess.Popen(command, pass_fds=[its.fileno()], env=process._environment(os.environ))
    its.close()
    yield ours
    ours.close()  # which ends it
    started.wait()


@pytest.fixture
def forked_alpaca_eval(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have alpaca_eval's process forked, where the system can send open files to another process."""
    if sys.platform != "linux":
        return
    line = request.getfixturevalue("origin")
    names = {"PIPE": subprocess.PIPE, "Popen": lambda *_, env, stderr, **__: Forked(line, env, stderr)}
    monkeypatch.setattr(process, "subprocess", SimpleNamespace(**names))


class Forked:
    """In the place of `subprocess.Popen`: what is used of it."""

    def __init__(self, line: socket.socket, env: Mapping[str, str], stderr: IO[bytes]) -> None:
        (its_stdin, stdin), (stdout, its_stdout) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(stdin, "w", encoding="utf-8"), os.fdopen(stdout, encoding="utf-8")
        socket.send_fds(line, [json.dumps(dict(env)).encode()], [its_stdin, its_stdout, stderr.fileno()])
        self._pid = int(line.recv(100))
        os.close(its_stdin)
        os.close(its_stdout)

    def kill(self) -> None:
        """End it, where it has not ended."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def communicate(self) -> None:
        """Wait until it has ended."""
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.read()
        self.stdout.close()


def serve(line: socket.socket) -> None:
    """Fork a process whenever the other side asks for one, until that is gone."""
    import pandas  # noqa: F401
    from alpaca_eval import annotators, evaluate  # noqa: F401
    from alpaca_eval.metrics import glm_winrate  # noqa: F401

    forked: list[int] = []
    while True:
        environment, files, _, _ = socket.recv_fds(line, _LARGEST, 3)
        if not environment:
            break
        pid = os.fork()
        if pid == 0:
            line.close()
            os._exit(_be_child(json.loads(environment), files))
        # It is waited for at the end alone, so that nobody else has its number when it is killed.
        forked.append(pid)
        line.send(str(pid).encode())
        for file in files:
            os.close(file)
    for pid in forked:
        os.waitpid(pid, 0)


def _be_child(environment: dict[str, str], files: list[int]) -> int:
    from della_bench.judging.alpaca import child

    os.environ.clear()
    os.environ.update(environment)
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    code: Any = 0
    try:
        child.main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    return code or 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
