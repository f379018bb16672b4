"""Workers beside each other: models a minute, the share of time they are idle, and what a model costs beside the work.

    python benchmarks/workers.py [--only run] [--models 40] [--limit 20] [--workers 1 2] [--cluster 3]

Evaluates merges of the zoo on its three tasks with local workers, and with one worker on each node of a Ray cluster of
so many nodes on the loopback address: a run of given merges, and a search (tpe, with racing) whose candidates are asked
as many items of each task. Starting Ray, the workers and their imports is counted apart. A search's idle share is that
of its workers until the last candidate has ended, with the wait for that one.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # nodes on the loopback address

from della_bench.jsonfiles import read_json
from della_bench.run.options import Options
from della_bench.run.runner import Runner
from della_bench.run.settings import EvalSettings
from della_bench.run.watching import Ended, Step, Watcher
from della_bench.search.candidate import Candidate
from della_bench.search.plan import make_plan
from della_bench.search.reading import read_space
from della_bench.search.search import Search
from della_bench.search.settings import read_settings
from della_bench.search.watching import SearchWatcher
from della_bench.spec import MergeSpec
from della_bench.workers.wanted import Wanted

TASKS = ("zoo_math", "zoo_code", "zoo_chat")
SPACE = {
    "base": "zoo:base",
    "experts": ["zoo:chat", "zoo:math", "zoo:code"],
    "merge_method": {"choices": ["task_arithmetic", "ties", "dare_ties", "della"]},
    "weights": {"low": 0.2, "high": 1.2},
    "density": {"low": 0.2, "high": 1.0},
    "epsilon": {"low": 0.0, "high": 0.2},
    "lambda": {"low": 0.4, "high": 1.6},
}


class Times(Watcher):
    """When the first model was evaluated by each worker, and when the last step ended."""

    def __init__(self) -> None:
        self.first = self.last = 0.0

    def ended(self, step: Step, how: Ended) -> None:
        """Begin with the end of the first evaluation: what had to be imported is there."""
        now = time.monotonic()
        self.first = self.first or now
        self.last = now


def specs(count: int) -> list[MergeSpec]:
    """Return merges of the zoo's three experts by task arithmetic, each with another lambda."""
    experts = "base=zoo:base,experts=zoo:math+zoo:code+zoo:chat,merge_method=ties,density=0.5"
    return [MergeSpec.parse(experts, name=f"m{n}", **{"lambda": 0.4 + n / 100}) for n in range(count)]


def measure(name: str, wanted: Wanted, models: Sequence[MergeSpec], limit: int) -> None:
    """Run, and print a line."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            Path(folder),
            TASKS,
            arguments={"device": "cpu", "batch_size": limit},
            settings=EvalSettings(limit=limit),
        )
        times, started = Times(), time.monotonic()
        faults = Runner(options, lines.append, watcher=times, workers=wanted).run(models)
        assert not faults, faults
        work = [_work(path) for path in Path(folder).glob("*/provenance.json")]
    idle = [float(match[1]) for line in lines if (match := re.search(r"(\d+)% of its time idle", line))]
    span = times.last - times.first
    own = median(work)  # the first ones load what the others find loaded
    print(
        f"{name}: {60 * len(models) / span:.1f} models a minute, idle {max(idle):.0f} % at most, "
        f"{len(idle) * span / len(models) - own:.2f} s a model beside its {own:.2f} s of work, "
        f"{times.first - started:.0f} s to the end of the first evaluation",
        flush=True,
    )


def _work(provenance: Path) -> float:
    """Return the seconds of merging, answering and lm-eval's own metrics of a model."""
    steps = read_json(provenance)["steps"].values()
    results = [read_json(provenance.parent / step["results"]) for step in steps]
    merging = sum(step["seconds_of"]["merge"] for step in steps)
    return float(merging + sum(float(each["total_evaluation_time_seconds"]) for each in results))


class SearchTimes(SearchWatcher):
    """When the first and the last candidate ended, the driver's processor time between, and how idle workers were."""

    def __init__(self) -> None:
        self.first = self.last = self.cpu = 0.0
        self.work: list[float] = []
        self.idle: list[dict[str, float]] = []
        self._idle: Callable[[], Mapping[str, float]] = dict
        self._cpu = 0.0

    def shared(self, idle: Callable[[], Mapping[str, float]]) -> None:
        """Keep whom to ask."""
        self._idle = idle

    def ended(self, candidate: Candidate, which: str, value: float | None, best: Candidate | None) -> None:
        """Count from the end of the first candidate on: what had to be imported is there."""
        if which != "search":
            return
        now, cpu = time.monotonic(), time.process_time()
        if not self.first:
            self.first, self._cpu = now, cpu
        else:
            self.work.append(candidate.seconds.get("merge", 0.0) + candidate.seconds.get("generate", 0.0))
        self.last, self.cpu = now, cpu - self._cpu

    def said(self, line: str) -> None:
        """Look how idle workers were at the end of the search items, and at the end of all."""
        if line.startswith("selecting among"):
            self.idle.append(dict(self._idle()))


def measure_search(name: str, wanted: Wanted, candidates: int, items: int) -> None:
    """Search, and print a line."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"benchmarks": list(TASKS), "trials": candidates, "items": {"search": items, "select": 8, "test": 8}}
        options = Options(Path(folder) / "out", (), arguments={"device": "cpu", "batch_size": items})
        plan = make_plan(read_space(SPACE), read_settings({**settings, "experts": False}, {}), options)
        times, started = SearchTimes(), time.monotonic()
        outcome = Search(plan, times, wanted).run()
        asked = sum(each.seen("search") for each in outcome.candidates)
    span, count = times.last - times.first, len(times.work)
    print(
        f"{name}: {60 * count / span:.1f} candidates a minute, idle {100 * max(times.idle[0].values()):.1f} % at most, "
        f"{sum(times.work) / count:.2f} s of merging and asking a candidate ({asked / len(outcome.candidates):.0f} "
        f"answers), {times.cpu / count:.2f} s of the driver's processor a candidate, {span:.0f} s in all, "
        f"{times.first - started:.0f} s to the end of the first",
        flush=True,
    )


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """Yield the address of a cluster of so many nodes of one core."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(nodes - 1):
        made.add_node(**node)
    try:
        yield f"127.0.0.1:{made.address.rpartition(':')[2]}"
    finally:
        made.shutdown()


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["run", "search"])
    parser.add_argument("--models", type=int, default=40)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--cluster", type=int, default=3)
    given = parser.parse_args()
    # A process for each, so that none finds Ray, or what was imported, as another left it.
    spawn = get_context("spawn").Process
    for what in [given.only] if given.only else ["run", "search"]:
        for count in given.workers:
            wanted = Wanted(count, cpus=1)
            alone(spawn(target=do, args=(what, f"{what}, {count} worker(s) here", wanted, given.models, given.limit)))
        if given.cluster:
            alone(spawn(target=do_nodes, args=(what, given.cluster, given.models, given.limit)))


def do(what: str, name: str, wanted: Wanted, models: int, limit: int) -> None:
    """Measure a run or a search."""
    if what == "run":
        measure(name, wanted, specs(models), limit)
    else:
        measure_search(name, wanted, models, limit)


def alone(process: BaseProcess) -> None:
    """Run a process to its end."""
    process.start()
    process.join()


def do_nodes(what: str, nodes: int, models: int, limit: int) -> None:
    """Measure one worker on each node of a cluster."""
    with cluster(nodes) as address:
        do(what, f"{what}, {nodes} nodes", Wanted(address=address), models, limit)


if __name__ == "__main__":
    main()
