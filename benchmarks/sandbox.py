"""Time of running MBPP's 500 solutions in the sandbox: warm, isolated, and a bare interpreter for each beside it.

    DELLA_BENCH_DATA=FOLDER python benchmarks/sandbox.py [--workers 2] [--level bubblewrap] [--json]

The bare loop has no isolation, no limits and no separate tests: `subprocess.run([python, "-I", "-c", program])` on as
many threads. Seconds are of the wall clock, with a limit of 10 s of CPU time for each program. CPU seconds are the
whole machine's, from /proc/stat: other work on it is counted too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from della_bench import data
from della_bench.scoring.sandbox import Level, Limits, Program, find_level, run


def solutions() -> list[Program]:
    """Return MBPP's own solutions with their setup code."""
    return [
        Program(str(row["task_id"]), row["code"], tuple(row["test_list"]), row["test_setup_code"])
        for row in data.load("mbpp")
    ]


def bare(programs: list[Program], workers: int) -> list[str]:
    """Run each program with its tests in an interpreter of its own; return "passed" or "failed" for each."""

    def one(program: Program) -> str:
        source = "\n".join((program.code, program.setup, program.test_source))
        done = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, check=False)
        return "failed" if done.returncode else "passed"

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, programs))


def sandboxed(programs: list[Program], workers: int, level: Level, *, isolate: bool) -> list[str]:
    """Run each program in the sandbox; return the verdicts."""
    limits = Limits(cpu_seconds=10)
    return [outcome.verdict for outcome in run(programs, limits, workers=workers, isolate=isolate, level=level)]


def measure(work: Callable[[], list[str]]) -> dict[str, object]:
    """Return seconds of the wall clock and of the machine's CPU, and the verdicts' counts."""
    busy, started = busy_seconds(), time.perf_counter()
    verdicts = work()
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "cpu": round(busy_seconds() - busy, 2), "verdicts": dict(Counter(verdicts))}


def busy_seconds() -> float:
    """Return the CPU time that the machine has spent on anything but idling."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--level", choices=("bubblewrap", "namespaces", "landlock"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    programs, level = solutions(), find_level(only=arguments.level)
    rows = {
        f"sandbox ({level}), warm": measure(lambda: sandboxed(programs, arguments.workers, level, isolate=False)),
        f"sandbox ({level}), isolated": measure(lambda: sandboxed(programs, arguments.workers, level, isolate=True)),
        "bare python -I": measure(lambda: bare(programs, arguments.workers)),
    }
    if arguments.json:
        print(json.dumps({"workers": arguments.workers, "level": level.name, "rows": rows}, indent=2))
        return
    print(f"{len(programs)} programs, {arguments.workers} workers\n")
    for name, row in rows.items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in dict(row["verdicts"]).items())  # type: ignore[call-overload]
        print(f"{name:32}{row['seconds']:>8} s{row['cpu']:>8} s CPU   {counts}")


if __name__ == "__main__":
    main()
