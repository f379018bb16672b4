"""A harness as plain as can be: candidate, setup and tests in one namespace, in a process of their own.

Run as a program: rows {"source": ...} on standard input, one verdict a line (True or False) on standard output.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

CPU_SECONDS, WALL_SECONDS, MEMORY = 2, 60, 1 << 30


def passes(source: str) -> bool:
    """Return whether `source` runs to its end, in a fork with the sandbox's limits."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(WALL_SECONDS)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        exec(compile(source, "<program>", "exec"), {"__name__": "candidate"})
        code = 0
    except BaseException:
        code = 1
    finally:
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        print(passes(json.loads(line)["source"]), flush=True)
