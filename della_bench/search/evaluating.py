"""Asking candidates block by block: every answer on disk as it comes, the whole as a run's files.

Whoever asks, this process or a worker, is called in the thread of the caller. What may ask a judge or run programs is
done by the `Main`, one at a time: there money is counted, and from there Ctrl-C ends it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from della_bench.merge.fingerprint import Inputs
from della_bench.run.evaluation import Evaluated, put_results
from della_bench.run.folder import Asked, RunFolder
from della_bench.run.options import Options
from della_bench.run.provenance import host_facts
from della_bench.run.scorers import scorers_of
from della_bench.run.watching import Seconds
from della_bench.search.answering import Answers, Places
from della_bench.search.candidate import BlockLog, Candidate, State
from della_bench.search.items import ItemSet
from della_bench.search.plan import Plan
from della_bench.search.race import looks
from della_bench.search.scoring import Number
from della_bench.spec import MergeSpec
from della_bench.workers.worker import HostRefusedError

__all__ = ["UNRACED_BLOCK", "Answered", "Ask", "Evaluating", "Look", "Main", "looks_of"]

R = TypeVar("R")

UNRACED_BLOCK = 50  # items of a benchmark between two rows on disk, where nobody looks
Values = Mapping[str, Sequence[float]]
Look = Callable[[int, Values], bool]
"""(which look it is, the values so far) -> whether the candidate is stopped."""
Ask = Callable[[MergeSpec, Places, Inputs], Answers]
"""Asks the merge of a spec, of these input files, documents."""


class Main(Protocol):
    """What does things one at a time, whichever thread wants them done; `size` is how many ask beside each other."""

    @property
    def size(self) -> int: ...  # noqa: D102

    def in_turn(self, act: Callable[[], R]) -> R:
        """Do something, and return what it returns or raise what it raises."""

    def in_main(self, call: Callable[[], None]) -> None:
        """Do something, now or later."""


@dataclass(frozen=True)
class Answered:
    """A candidate with its values on a set, "complete" or "stopped", and what it was answered."""

    candidate: Candidate
    run: RunFolder
    rows: Sequence[Mapping[str, Any]]


def looks_of(plan: Plan, which: str) -> list[list[int]]:
    """Return how many items of each benchmark are asked after each block of a set."""
    race = plan.settings.race
    block = race.block if race is not None and which == "search" and not plan.settings.goal.several else UNRACED_BLOCK
    return looks([len(each.items) for each in plan.sets[which]], block)


class Evaluating:
    """Asks candidates the items of a set, and leaves the files of a run."""

    def __init__(self, plan: Plan, options: Options) -> None:
        """options: of the run that the files are those of, with the money that judges may spend."""
        self._plan, self._options = plan, options

    def evaluate(
        self, candidate: Candidate, which: str, ask: Ask, main: Main, look: Look = lambda number, values: False
    ) -> Answered:
        """Return the candidate with its values on a set; what is on disk is not asked again.

        Raises DellaBenchError where it cannot be merged, asked or scored.
        """
        sets, folder = self._plan.sets[which], candidate.folder
        folder.mkdir(parents=True, exist_ok=True)
        run = RunFolder(candidate.spec, folder, self._options)
        log = BlockLog(folder, which, self._answers_digest(which, run.inputs.fingerprint))
        seconds = {"propose": 0.0, "merge": 0.0, "generate": 0.0, "score": 0.0, **candidate.seconds}
        values: dict[str, list[float]] = {each.benchmark: [] for each in sets}
        all_looks, seen = looks_of(self._plan, which), [0] * len(sets)
        state: State = "complete"
        for number, ends in enumerate(all_looks, start=1):
            if number > len(log.rows):
                blocks = {each.task: each.items[start:end] for each, start, end in zip(sets, seen, ends, strict=True)}
                log.append(_asked(ask, candidate.spec, {task: items for task, items in blocks.items() if items}, run))
            for name, spent in log.rows[number - 1]["seconds"].items():
                seconds[name] += spent
            started = time.perf_counter()
            for each, end in zip(sets, ends, strict=True):
                found = self._values(run, which, each, log.rows[:number], main)
                values[each.benchmark] = [found[digest] for _, digest in each.items[:end]]
            seconds["score"] += time.perf_counter() - started
            seen = ends
            if look(number, values) and number < len(all_looks):
                state = "stopped"
                break
        fingerprint = run.inputs.fingerprint
        ended = replace(candidate.with_values(which, values, sets), seconds=seconds, fingerprint=fingerprint)
        stopped_at = number if state == "stopped" else candidate.stopped_at
        return Answered(replace(ended, state=state, stopped_at=stopped_at), run, log.rows)

    def put(self, answered: Answered, which: str) -> Candidate:
        """Write what a run leaves where all items were asked; return the candidate with the time that this took."""
        candidate = answered.candidate
        if candidate.state == "stopped":
            return candidate
        started = time.perf_counter()
        self._put(answered.run, which, answered.rows)
        score = candidate.seconds["score"] + time.perf_counter() - started
        return replace(candidate, seconds={**candidate.seconds, "score": score})

    def forget(self, candidate: Candidate, which: str) -> None:
        """Delete the blocks of a candidate that has ended completely: the run's files hold the same."""
        BlockLog(candidate.folder, which, "").remove()

    def _answers_digest(self, which: str, fingerprint: str) -> str:
        """Return a digest of what the answers to a set's blocks depend on."""
        items = [[each.task, each.items] for each in self._plan.sets[which]]
        facts = [fingerprint, items, looks_of(self._plan, which), self._plan.answering]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _values(
        self, run: RunFolder, which: str, items: ItemSet, rows: Sequence[Mapping[str, Any]], main: Main
    ) -> Mapping[str, float]:
        number = self._plan.numbers[items.benchmark, which]
        if number.scorer is None:
            return number.of_rows([row for block in rows for row in block["samples"].get(items.task, [])])
        return main.in_turn(lambda: self._judged(run, items, rows, number))

    def _judged(
        self, run: RunFolder, items: ItemSet, rows: Sequence[Mapping[str, Any]], number: Number
    ) -> Mapping[str, float]:
        """Ask a judge about what there is so far; what it was asked before it answers from its cache, for nothing."""
        scratch = run.folder / ".scoring"
        shutil.rmtree(scratch, ignore_errors=True)
        evaluated = self._put_one(run, items, rows, scratch)
        try:
            return number.of_scores(evaluated, scratch, self._run_options(items))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _run_options(self, items: ItemSet) -> Options:
        """Return the options of a run over the items: with no documents named where they are all there are."""
        places = tuple(sorted(place for place, _ in items.items))
        if len(places) == self._documents(items.task):
            return self._options
        name = self._plan.rows[items.task].name
        own = {**self._options.by_benchmark.get(name, {}), "samples": {items.task: places}, "limit": None}
        return replace(self._options, by_benchmark={**self._options.by_benchmark, name: own})

    @cache  # noqa: B019  # lives as long as the search
    def _documents(self, task: str) -> int:
        return len(self._plan.tasks.task(self._plan.rows[task]).eval_docs)

    def _put(self, run: RunFolder, which: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what a run leaves: results, samples, scores, spec and provenance."""
        model = rows[-1]["model"]
        host = rows[-1].get("host") or host_facts()
        run.record_model(device=model["device"], dtype=model["dtype"], host=host, advice={})
        for items in self._plan.sets[which]:
            options = self._run_options(items)
            own = RunFolder(run.spec, run.folder, options, inputs=run.inputs)
            row = self._plan.rows[items.task]
            asked = Asked(row, options.settings_of(row.name), self._plan.tasks.digest(row))
            started = time.time()
            evaluated = own.evaluated(asked)
            if evaluated is None:
                evaluated = self._put_one(own, items, rows, run.folder, own.record(asked))
                own.record_evaluation(asked, evaluated, started, _spent(rows))
            for scorer in scorers_of(row):
                if own.scored(asked, scorer, evaluated) is None:
                    began = time.perf_counter()
                    scores = scorer.score(evaluated, run.folder, options)
                    own.record_scores(asked, scorer, evaluated, scores, time.perf_counter() - began)

    def _put_one(
        self,
        run: RunFolder,
        items: ItemSet,
        rows: Sequence[Mapping[str, Any]],
        folder: Path,
        record: Mapping[str, Any] | None = None,
    ) -> Evaluated:
        """Write lm-eval's results and samples of one task, its blocks put together."""
        blocks = [block for block in rows if items.task in block["samples"]]
        samples = sorted(
            (dict(row) for block in blocks for row in block["samples"][items.task]),
            key=lambda row: (str(row.get("filter")), row["doc_id"]),
        )
        task = self._plan.tasks.task(self._plan.rows[items.task])
        results = _pooled(blocks[-1]["header"], items.task, task, samples)
        ours = {**blocks[-1]["model"], "model_fingerprint": run.inputs.fingerprint, "run": dict(record or {})}
        return put_results(folder, items.task, run.spec, results, {items.task: samples}, ours=ours)


def _asked(ask: Ask, spec: MergeSpec, items: Mapping[str, Sequence[tuple[int, str]]], run: RunFolder) -> dict[str, Any]:
    """Return the answers to documents, by task, as a row. Raises HostRefusedError where they are about others."""
    answers = ask(spec, {task: tuple(place for place, _ in pairs) for task, pairs in items.items()}, run.inputs)
    for task, pairs in items.items():
        if missing := {digest for _, digest in pairs} - {str(row["doc_hash"]) for row in answers.samples[task]}:
            name = answers.host.get("name")
            raise HostRefusedError(f"{name} is not used: {len(missing)} of its documents of {task} differ")
    return {name: getattr(answers, name) for name in ("header", "samples", "model", "seconds", "host")}


def _spent(rows: Sequence[Mapping[str, Any]]) -> Seconds:
    """Return how long merging and answering took over all blocks; the tasks of a block are asked together."""
    merge, generate = (sum(row["seconds"][what] for row in rows) for what in ("merge", "generate"))
    return Seconds(merge=merge, generation=generate)


_BY_TASK = ("results", "configs", "versions", "n-shot", "higher_is_better", "group_subtasks", "n-samples")


def _pooled(header: Mapping[str, Any], name: str, task: Any, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return lm-eval's results of one task over several blocks: its numbers are those over all samples.

    header: the results of one block. task: as lm-eval has built it. What cannot be told from the samples is left out.
    """
    out = {key: value for key, value in header.items() if key not in _BY_TASK}
    out |= {key: {name: header[key][name]} for key in _BY_TASK if name in header.get(key, {})}
    out["config"] = dict(header["config"])
    result = dict(out["results"][name])
    aggregations = task.aggregation()
    for key in list(result):
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        rows = [row for row in samples if str(row.get("filter", "none")) == filter_name and metric in row]
        error = f"{metric}_stderr,{filter_name}"
        try:
            values = [row[metric] for row in rows]
            aggregation = aggregations.get(metric, statistics.fmean)
            result[key] = aggregation(values)
            is_mean = getattr(aggregation, "__name__", "") in ("mean", "fmean")
            result[error] = _standard_error(values) if is_mean else "N/A"
        except Exception:  # of the task's own function, or because it gives no such number
            result.pop(key)
            result.pop(error, None)
    documents = {row["doc_id"] for row in samples}
    result |= {"sample_len": len(documents)} if "sample_len" in result else {}
    counts = dict(out.get("n-samples", {}).get(name, {}))
    return {**out, "results": {name: result}, "n-samples": {name: {**counts, "effective": len(documents)}}}


def _standard_error(values: Sequence[float]) -> float | str:
    """Return the standard error of the mean, as lm-eval has it."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else "N/A"
