"""What asking a candidate leaves: the files of a run, its blocks of answers put together as lm-eval has them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from della_bench.run.evaluated import Evaluated
from della_bench.run.evaluation import put_results
from della_bench.run.folder import Asked, RunFolder
from della_bench.run.options import Options
from della_bench.run.provenance import host_facts
from della_bench.run.scorers import scorers_of
from della_bench.run.watching import Seconds
from della_bench.search.items import ItemSet
from della_bench.search.plan import Plan

__all__ = ["RunFiles"]


class RunFiles:
    """Writes into run folders what candidates were answered, as blocks' rows have it (`evaluating.BlockLog`)."""

    def __init__(self, plan: Plan, options: Options) -> None:
        """options: of the run that the files are those of, with the money that judges may spend."""
        self._plan, self._options = plan, options

    def put(self, run: RunFolder, which: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write what a run leaves: results, samples, scores, spec and provenance."""
        model = rows[-1]["model"]
        host = rows[-1].get("host") or host_facts()
        run.record_model(device=model["device"], dtype=model["dtype"], host=host, advice={})
        for items in self._plan.sets[which]:
            options = self.options_of(items)
            own = RunFolder(run.spec, run.folder, options, inputs=run.inputs)
            row = self._plan.rows[items.task]
            asked = Asked(row, options.settings_of(row.name), self._plan.tasks.digest(row))
            started = time.time()
            evaluated = own.evaluated(asked)
            if evaluated is None:
                evaluated = self.put_one(own, items, rows, run.folder, own.record(asked))
                own.record_evaluation(asked, evaluated, started, _spent(rows))
            for scorer in scorers_of(row):
                if own.scored(asked, scorer, evaluated) is None:
                    began = time.perf_counter()
                    scores = scorer.score(evaluated, run.folder, options)
                    own.record_scores(asked, scorer, evaluated, scores, time.perf_counter() - began)

    def put_one(
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

    def options_of(self, items: ItemSet) -> Options:
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
