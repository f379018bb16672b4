"""What a search costs beside asking the models: seconds a candidate for proposing, merging and recording.

    python benchmarks/search.py [--candidates 20] [--items 20] [--batch-size 64] [--old-way]

Searches over the embedded zoo without racing, and prints the user CPU seconds a candidate of each part. With --old-way
the same candidates are then evaluated as other tools do it: each merge is written to a folder, loaded anew into
transformers by lm-eval's own `hf`, and asked the same items; the ratio of the two is of the same run.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
logging.getLogger("lm_eval").setLevel(logging.ERROR)

SPACE = {
    "base": "zoo:base",
    "experts": ["zoo:chat", "zoo:math", "zoo:code"],
    "merge_method": {"choices": ["task_arithmetic", "ties", "dare_ties", "della"]},
    "weights": {"low": 0.2, "high": 1.2},
    "density": {"low": 0.2, "high": 1.0},
    "epsilon": {"low": 0.0, "high": 0.2},
    "lambda": {"low": 0.4, "high": 1.6},
}


class Clock:
    """Adds up the CPU seconds that calls of some functions take."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count the calls of `owner.name` under `part`."""
        original: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            started = time.process_time()
            try:
                return original(*args, **options)
            finally:
                self.spent.setdefault(part, []).append(time.process_time() - started)

        setattr(owner, name, timed)


def main() -> None:
    """Search, print what each part took, and compare with the old way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--items", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--old-way", action="store_true")
    chosen = parser.parse_args()

    from della_bench.run.engine import Engine
    from della_bench.run.options import Options
    from della_bench.search import answering, evaluating, search
    from della_bench.search.plan import make_plan
    from della_bench.search.proposals import Proposals
    from della_bench.search.reading import read_space
    from della_bench.search.settings import read_settings

    settings = {
        "benchmarks": ["zoo_math", "zoo_code", "zoo_chat"],
        "trials": chosen.candidates,
        "race": False,
        "experts": False,
        "finalists": 1,
        "items": {"search": chosen.items, "select": 1, "test": 1},
    }
    work = Path(tempfile.mkdtemp(prefix="della-bench-search-"))
    options = Options(work / "out", (), arguments={"batch_size": chosen.batch_size})
    plan = make_plan(read_space(SPACE), read_settings(settings, {}), options)
    clock = Clock()
    clock.watch(Proposals, "ask", "propose")
    clock.watch(Proposals, "tell", "propose")
    clock.watch(Proposals, "keep", "propose")
    clock.watch(Engine, "load", "merge")
    clock.watch(answering, "ask", "ask")
    clock.watch(evaluating.Evaluating, "put", "record")
    clock.watch(search, "write_candidate", "record")
    clock.watch(search, "write_candidates", "record")
    outcome = search.Search(plan).run()
    tried = [each for each in outcome.candidates if each.number is not None]
    first_load = clock.spent["merge"].pop(0)
    print(f"{len(tried)} candidates, {3 * chosen.items} items each, user CPU seconds a candidate:")
    beside = 0.0
    for part in ("propose", "merge", "record", "ask"):
        seconds = sum(clock.spent[part]) / len(tried)
        beside += seconds if part != "ask" else 0.0
        print(f"  {part:8} {seconds:.3f}   (median of a call {statistics.median(clock.spent[part]):.3f})")
    print(f"beside asking and scoring: {beside:.3f} s a candidate; starting the engine took {first_load:.1f} s once")
    if chosen.old_way:
        old = {part: total / len(tried) for part, total in old_way(plan, tried, work, chosen.batch_size).items()}
        asked = sum(clock.spent["ask"]) / len(tried)
        print("the old way: " + ", ".join(f"{part} {total:.3f}" for part, total in old.items()))
        merge = sum(clock.spent["merge"]) / len(tried)
        print(f"to exchange the merge: {(old['write'] + old['load']) / merge:.1f} times as long")
        print(f"all of a candidate: {sum(old.values()) / (beside + asked):.2f} times as long, and nothing recorded")
    shutil.rmtree(work)


def old_way(plan: Any, tried: list[Any], work: Path, batch_size: int) -> dict[str, float]:
    """Return the CPU seconds of writing each candidate's merge, loading it anew, and asking it the same items."""
    import lm_eval
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from torch.utils import collect_env

    from della_bench.merge.folder import write_folder
    from della_bench.merge.stream import Merge

    # Describing the machine takes lm-eval longer than these few items do: left out on both sides.
    collect_env.get_pretty_env_info = lambda: ""
    evaluator.get_git_commit_hash = lambda: ""
    tasks = [plan.tasks.task(plan.rows[each.task]) for each in plan.sets["search"]]
    samples = {each.task: sorted(place for place, _ in each.items) for each in plan.sets["search"]}
    spent = {"write": 0.0, "load": 0.0, "ask": 0.0}
    for number, candidate in enumerate(tried):
        folder = work / f"merge-{number}"
        started = time.process_time()
        write_folder(Merge(candidate.spec), folder, progress=False)
        written = time.process_time()
        model = HFLM(pretrained=str(folder), device="cpu", batch_size=batch_size)
        loaded = time.process_time()
        lm_eval.simple_evaluate(model=model, tasks=tasks, task_manager=plan.tasks.manager, samples=samples)
        spent["write"] += written - started
        spent["load"] += loaded - written
        spent["ask"] += time.process_time() - loaded
        shutil.rmtree(folder)
    return spent


if __name__ == "__main__":
    main()
