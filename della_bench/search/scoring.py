"""What an answer is worth: a number from 0 to 1 for every item, by the task's own metric or by a judge."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from della_bench.benchmarks import BENCHMARKS, Benchmark
from della_bench.errors import DataError, JudgeError, UsageError
from della_bench.judging.gsm8k.by_number import EXACT
from della_bench.results.logged import logged_metric, logged_scorer
from della_bench.results.schema import Score, items_path, read_items
from della_bench.run.evaluated import Evaluated
from della_bench.run.options import Options
from della_bench.run.scorer import Scorer
from della_bench.run.scorers import scorers_of
from della_bench.suggest import nearest

__all__ = ["Number", "choose_number", "is_paid"]

log = logging.getLogger(__name__)

_FILTERS = {"gsm8k": "answer-is"}  # which way of reading a reply counts where a task has several; else its first


@dataclass(frozen=True)
class Number:
    """Whose number of a task counts: a filter's with a metric of the task, or a scorer's that reads the answers."""

    task: str
    filter: str = ""
    metric: str = ""
    scorer: Scorer | None = None
    name: str = ""

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return by document's hash the value of each row that counts. Raises DataError where one has none."""
        found: dict[str, float] = {}
        for row in rows:
            if str(row.get("filter", "none")) == self.filter:
                value = row.get(self.metric)
                if not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= 1:
                    raise DataError(
                        f"{self.task}: {self.metric} of document {row.get('doc_id')} is {value!r}, no share"
                    )
                found[str(row["doc_hash"])] = float(value)
        return found

    def of_scores(self, evaluated: Evaluated, folder: Path, options: Options) -> dict[str, float]:
        """Ask the scorer about an evaluation, and return by document's hash what it gave.

        What a judge could not judge is worth nothing, and a warning says so. Raises JudgeError where the money ended.
        """
        assert self.scorer is not None
        scores = list(self.scorer.score(evaluated, folder, options))
        chosen = self._own(scores)
        kinds = chosen["detail"].get("unscored_kinds") or chosen["detail"].get("failures") or {}
        if any("budget" in str(kind) or "cost" in str(kind) for kind in kinds):
            raise JudgeError(f"{self.name}: the money for judging has ended ({chosen['unscored']} answers not judged)")
        if chosen["unscored"]:
            log.warning(
                "%s: %d of %d answers could not be judged and are worth nothing in this search",
                self.name,
                chosen["unscored"],
                chosen["n"],
            )
        return {digest: value or 0.0 for digest, value in self.of_items(scores, folder).items()}

    def of_items(self, scores: Sequence[Score], folder: Path) -> dict[str, float | None]:
        """Return by document's hash what the scorer gave, of the scores that it has written below `folder`.

        None: it could not judge the answer.
        """
        chosen = self._own(scores)
        place = chosen["detail"].get("place", chosen["scorer"]["name"])
        items = read_items(items_path(folder, chosen["benchmark"], place))
        return {item["doc_hash"]: None if item["value"] is None else float(item["value"]) for item in items}

    def _own(self, scores: Sequence[Score]) -> Score:
        return next((each for each in scores if each["scorer"]["name"] == self.name), scores[0])


def is_paid(scorer: Scorer, options: Options) -> bool:
    """Return whether a scorer asks somebody who costs money: any judge but the one that compares numbers."""
    return scorer.judge is not None and scorer.judge(options) != EXACT


def choose_number(row: Benchmark, benchmark: str, task: Any, wanted: str | None, options: Options) -> Number:
    """Return whose number counts for a task.

    row: the task's, as `Tasks` has it; task: as lm-eval has built it. wanted: a scorer's or a filter's name; by default
    the judge that the options choose, else the task's own number. A benchmark's judge judges all its splits. Raises
    UsageError where there is none of that name, or no number that is a mean over items.
    """
    filters = [each["name"] for each in task.config.filter_list or [{"name": "none"}]]
    listed = [each for each in task.config.metric_list or [] if each.get("aggregation", "mean") == "mean"]
    better = {each["metric"]: each.get("higher_is_better", True) for each in listed}
    metrics = logged_metric({f"{metric},{name}": 0 for metric in better for name in filters}, better)
    judges = {
        scorer.judge(options) if scorer.judge else scorer.step: scorer
        for scorer in scorers_of(BENCHMARKS.get(benchmark, row))
    }
    judges = {name: scorer for name, scorer in judges.items() if scorer.step not in ("lm_eval", "sandbox")}
    names = {**{logged_scorer(name, "")["name"]: name for name in metrics}, **{name: name for name in metrics}}
    if wanted is None and options.judge != EXACT and options.judge in judges:
        wanted = options.judge
    if wanted in judges:
        return Number(row.task, scorer=judges[wanted], name=wanted)
    if wanted is not None and wanted not in names:
        raise UsageError(f"scorer {wanted!r} of {benchmark}: no such number{nearest(wanted, [*metrics, *judges])}")
    if metrics:
        default = _FILTERS.get(benchmark, next(iter(metrics)))
        chosen = names[wanted] if wanted is not None else default if default in metrics else next(iter(metrics))
        return Number(row.task, chosen, metrics[chosen], name=logged_scorer(chosen, "")["name"])
    if judges:
        name, scorer = next(iter(judges.items()))
        return Number(row.task, scorer=scorer, name=name)
    raise UsageError(f"{benchmark}: its task {row.task} gives no number to search by")
