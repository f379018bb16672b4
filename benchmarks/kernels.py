"""What each compiled loop of a merge on the CPU takes, by itself and in a merge: nanoseconds an element, one thread.

    python benchmarks/kernels.py [--repeat 2000]

Three experts in bfloat16, rows of 1,024. A loop's time is the difference between blocks of 8,192 and 1,024 elements, so
that the call from Python does not count; all lies in the cache, and each repeat has the same numbers. Below stands the
sum by how often a parameter passes through each loop, and the processor time of whole merges of 16 M parameters, which
lie in memory: what these take more is waiting for memory, new pages of it, and jumps that nobody can predict.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from della_bench.checkpoint.tensor import HostTensor
from della_bench.merge.kernels import cpu, cpu_convert, cpu_equals, cpu_few, cpu_fuse, cpu_loops, cpu_ranks
from della_bench.merge.kernels.cpu_plan import make_scratch
from della_bench.merge.kernels.workers import Workers
from della_bench.spec import MergeSpec

LONG, SHORT = 8192, 1024  # elements of a block
ROW, ROWS, EXPERTS = 1024, 16_384, 3
METHODS = {
    "della": "density=0.5,epsilon=0.1",
    "ties": "density=0.5",
    "dare_linear": "density=0.5",
    "task_arithmetic": "",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=2000)
    options = parser.parse_args()
    table = Table("loop", "ns", *(f"times in {method}" for method in METHODS))
    totals = dict.fromkeys(METHODS, 0.0)
    (shorts, keep_short), (longs, keep_long) = _loops(SHORT), _loops(LONG)
    for (name, short, times), (_, long, _) in zip(shorts, longs, strict=True):
        each = (_nanoseconds(long, options.repeat) - _nanoseconds(short, options.repeat)) / (LONG - SHORT)
        for method in METHODS:
            totals[method] += each * times.get(method, 0)
        table.add_row(name, f"{each:.2f}", *(str(times.get(method, "")) for method in METHODS))
    del keep_short, keep_long
    table.add_row("sum, a parameter", "", *(f"{total:.2f}" for total in totals.values()))
    merged = [_merge(method, ROWS, max(1, options.repeat // 200)) for method in METHODS]
    table.add_row("a merge, a parameter", "", *(f"{each:.2f}" for each in merged))
    Console().print(table)


def _sources(rows: int) -> list[HostTensor]:
    random = np.random.default_rng(0)
    base = random.standard_normal(rows * ROW, np.float32) * np.float32(0.02)
    deltas = (random.standard_normal(base.size, np.float32) * np.float32(0.0002) for _ in range(EXPERTS))
    return [_bf16(values, rows) for values in (base, *(base + delta for delta in deltas))]


def _bf16(values: np.ndarray[Any, Any], rows: int) -> HostTensor:
    stored = HostTensor(np.empty(2 * values.size, np.uint8), "BF16", (rows, ROW))
    cpu_convert.store(values, stored.address, cpu_convert.BF16, 0)
    return stored


def _loops(size: int) -> tuple[list[tuple[str, Callable[[], object], dict[str, int]]], object]:
    """Return each loop's name, work, and how often a parameter passes through it, by method; and what they work on."""
    code = cpu_convert.BF16
    sources = _sources(size // ROW)
    s = make_scratch(size, EXPERTS, False)
    base, words = s.base[:size], s.words[:size]
    deltas = s.deltas[: EXPERTS * size].reshape(EXPERTS, size)
    d, keys, rules = deltas[0], s.keys[:size], s.rules[:size]
    cpu_convert.widen(sources[0].address, code, 0, base)
    for k in range(EXPERTS):
        cpu_convert.delta(sources[1 + k].address, code, 0, base, deltas[k])
    kept = deltas.copy()
    cpu_convert.keys(d, code, keys)
    cpu_loops.philox(words, 0, 1)
    highest, scales = cpu._rank_tables(2**31 - 2**28, 2**31 + 2**28, ROW, True)
    least = cpu_convert.least_magnitude(int(np.median(keys)), code)
    above = cpu_convert.least_magnitude(int(np.median(keys)) + 1, code)
    weights, out, few = np.ones(EXPERTS, np.float32), s.out[:size], np.random.default_rng(1).random(size) < 0.5
    kept[:, few] = 0
    stored = _bf16(base, size // ROW)
    address, of_expert, target = sources[0].address, sources[1].address, stored.address
    spare = (s.wide[:size], s.divisor[:size], s.taken[:size])

    def rank() -> None:
        cpu_ranks.rank_rows16(d, keys, words, ROW, highest, scales, s.bins, s.key_rules, rules)

    def count() -> None:
        for row in keys.reshape(-1, ROW):
            cpu_ranks.count_keys(row, s.bins)

    def fuse() -> None:
        cpu_fuse.finish(base, kept, cpu_fuse.NONE, s.signs[:size], weights, False, np.ones((EXPERTS, 1), np.float32), 0,
                        1.0, spare, out)  # fmt: skip

    every = dict.fromkeys(METHODS, EXPERTS)
    all_sources = dict.fromkeys(METHODS, 1 + EXPERTS)
    once = dict.fromkeys(METHODS, 1)
    loops: list[tuple[str, Callable[[], object], dict[str, int]]] = [
        ("look for NaN", lambda: cpu_convert.finite(address, code, 0, size), all_sources),
        ("widen the base", lambda: cpu_convert.widen(address, code, 0, base), once),
        ("delta", lambda: cpu_convert.delta(of_expert, code, 0, base, d), every),
        ("random words", lambda: cpu_loops.philox(words, 0, 1), {"della": 3, "dare_linear": 3, "ties": 3}),
        ("keys", lambda: cpu_convert.keys(d, code, keys), {"della": 3}),
        ("ranks, rules and drop", rank, {"della": 3}),
        ("  of it: count", count, {}),
        ("random drop", lambda: cpu_loops.random_keep(d, words, 2**31, 1.0), {"dare_linear": 3}),
        ("count at a known cut",
         lambda: cpu_convert.bf16_delta_counts(address, of_expert, 0, size, least, above), {"ties": 3}),
        ("keep up to a cut", lambda: cpu_equals.keep_up_to(d, words, least, above, 2**31, -1, 1.0), {"ties": 3}),
        ("elect, fuse, add", lambda: cpu_few.finish_few(base, kept, weights, True, 1.0, out), {"della": 1, "ties": 1}),
        ("fuse, add", fuse, {"dare_linear": 1, "task_arithmetic": 1}),
        ("store", lambda: cpu_convert.store(base, target, code, 0), once),
    ]  # fmt: skip
    return loops, (sources, stored)


def _nanoseconds(work: Callable[[], object], repeat: int) -> float:
    work()
    taken = []
    for _ in range(repeat):
        began = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - began)
    return median(taken)


def _merge(method: str, rows: int, repeat: int) -> float:
    base, *experts = _sources(rows)
    text = f"base=a,experts=b+c+d,merge_method={method}" + (f",{METHODS[method]}" if METHODS[method] else "")
    spec = MergeSpec.parse(text).at("model.weight")
    with Workers(1) as workers:
        cpu.merge_stored(spec, "model.weight", base, experts, "BF16", workers)
        began = time.thread_time_ns()
        for _ in range(repeat):
            cpu.merge_stored(spec, "model.weight", base, experts, "BF16", workers)
        return (time.thread_time_ns() - began) / repeat / base.size


if __name__ == "__main__":
    main()
