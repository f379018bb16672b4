"""Killing the command line at random moments, many times.

The processes are forked from one that has imported everything before: a start takes no seconds, so that a hundred kills
take minutes. DELLA_BENCH_TEST_KILLS says how many there are.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tests.waiting import HANGS

KILLS = int(os.environ.get("DELLA_BENCH_TEST_KILLS", "3"))
# What the commands import when they are called.
_IMPORTED = [
    "tests.killing",
    "della_bench.cli",
    "della_bench.judging.batch",
    "della_bench.judging.gsm8k.judge",
    "della_bench.results.leaderboard",
    "della_bench.results.page",
    "scipy.stats",
]


def nothing() -> None:
    """Wait for the process that everything is forked from."""


def command_line(arguments: Sequence[str], told: Path, before: Callable[[], None] | None = None) -> None:
    """Be the command line with these arguments, in a process group of its own; what it says goes into a file.

    before: is called first, in the process itself.
    """
    from della_bench.cli import main

    os.setsid()
    with told.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        if before is not None:
            before()
        main(list(arguments))
    except BaseException as ended:
        if isinstance(ended, SystemExit) and isinstance(ended.code, int):
            raise
        traceback.print_exc()
        raise SystemExit(1) from None


class Killer:
    """Starts one command again and again and kills it at random moments, until it has ended so many times as asked."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        told: Path,
        before: Callable[[], None] | None = None,
        *,
        also: Sequence[str] = (),
    ) -> None:
        """Prepare to call `arguments`; `also` are modules that are imported before."""
        self._arguments = [str(each) for each in arguments]
        self._told, self._before = told, before
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*_IMPORTED, *also])
        self.horizon = 0.0
        self.kills = 0

    def _start(self) -> ForkServerProcess:
        process = self._context.Process(target=command_line, args=(self._arguments, self._told, self._before))
        process.start()
        return process

    def finish(self) -> None:
        """Call the command without a kill, and note how long it took."""
        first = self._context.Process(target=nothing)  # the imports are none of its time
        first.start()
        first.join(HANGS)
        began = time.monotonic()
        process = self._start()
        process.join(HANGS)
        self.horizon = time.monotonic() - began
        assert process.exitcode == 0, self._told.read_text()

    def kill(self, moments: random.Random) -> bool:
        """Call the command and kill it, and all that it started, at a random moment; False where it ended before."""
        process = self._start()
        process.join(moments.uniform(0, self.horizon))
        if process.exitcode is not None:
            assert process.exitcode == 0, self._told.read_text()
            return False
        assert process.pid is not None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it is no group yet
            process.kill()
        process.join(HANGS)
        self.kills += process.exitcode == -signal.SIGKILL
        return True


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
