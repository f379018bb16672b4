"""One results file of lm-eval: whose it is, how it asked, the samples logged with it, and its numbers."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from della_bench.benchmarks import benchmark_of
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_json, read_rows
from della_bench.results.identity import Identity, identity_of
from della_bench.results.logged import logged_metric, logged_scorer
from della_bench.results.samples import begins_as_results
from della_bench.results.schema import Score, Scorer
from della_bench.results.settings import UNKNOWN, Settings, settings_of_all, subtable
from della_bench.results.table import CellSource

__all__ = ["Evaluation", "ReportedNumber", "is_results_file", "read_evaluation"]

_RESULTS = re.compile(r"results(_.*)?\.json")
_LATEST = 253_402_300_800  # the year 10000, in seconds since 1970: no date is so late
_TIME = re.compile(r"(_\d{4}-\d\d-\d\dT[\d.-]+)\.json$")  # as lm-eval has it behind a file's name


@dataclass(frozen=True)
class ReportedNumber:
    """A number on disk for one benchmark: a scorer's, or the one that lm-eval logged.

    `n` counts the items that were evaluated, `date` is when (seconds since 1970). `score` is None where the number
    comes out of the samples; `logged` is then what lm-eval's results say (value and standard error as shares).
    `settings` is how the benchmark was asked, `group` the largest group of tasks that this one is a part of.
    """

    benchmark: str
    metric: str
    scorer: Scorer
    n: int
    date: float
    source: CellSource
    task: str | None = None
    score: Score | None = None
    logged: tuple[float, float | None] | None = None
    settings: Settings = UNKNOWN
    group: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """One results file: whose it is, the samples logged with it and how it asked (by task), and its numbers.

    `advice` is what a run said of the model or its answers on the machine where it ran.
    """

    who: Identity
    results: Path
    samples: Mapping[str, Path]
    date: float
    numbers: tuple[ReportedNumber, ...]
    settings: Mapping[str, Settings] = field(default_factory=dict)
    advice: tuple[str, ...] = ()


def is_results_file(path: Path) -> bool:
    """Return whether a file is one of lm-eval's results, by its name or (`--output_path NAME.json`) its first key."""
    if path.suffix != ".json" or path.name.startswith("samples_"):
        return False
    return _RESULTS.fullmatch(path.name) is not None or begins_as_results(path)


def read_evaluation(path: Path) -> Evaluation:
    """Read one results file of lm-eval, with what it says of its tasks; scores beside it are not looked at.

    Raises DataError where it is no results file.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("results"), dict):
        raise DataError(f"{path}: no results of lm-eval: there is no table 'results'", exit_code=USERS_FILE)
    _refuse_old(path, value["results"])
    date = _number(value.get("date")) or 0.0
    date = date if 0 < date < _LATEST else path.stat().st_mtime
    who = identity_of(path, value)
    logs = _samples(path)
    groups = _groups(value)
    numbers: list[ReportedNumber] = []
    results = {task: result for task, result in value["results"].items() if isinstance(result, dict)}
    settings = settings_of_all(value, {task: groups.get(task, ()) for task in results})
    for task, result in results.items():
        numbers += _logged(path, value, task, result, logs, date, settings[task], groups)
    return Evaluation(who, path, logs, date, tuple(numbers), settings, _advice(value))


def _advice(value: Mapping[str, Any]) -> tuple[str, ...]:
    ours = (value.get("config") or {}).get("della_bench")
    found = ours.get("advice") if isinstance(ours, dict) else None
    return tuple(map(str, found.values())) if isinstance(found, dict) else ()


def _refuse_old(path: Path, results: Mapping[str, Any]) -> None:
    """Raise DataError where no metric names its filter: of a release before 0.4, or of another program."""
    keys = [key for result in results.values() if isinstance(result, dict) for key in result]
    if any(key.endswith("_stderr") for key in keys) and not any("," in key for key in keys):
        message = f"{path}: results of lm-eval before 0.4, or of another program (a metric is called acc, not acc,none)"
        raise DataError(f"{message}: evaluate again", exit_code=USERS_FILE)


def _logged(
    path: Path,
    value: Mapping[str, Any],
    task: str,
    result: Mapping[str, object],
    logs: Mapping[str, Path],
    date: float,
    settings: Settings,
    groups: Mapping[str, Sequence[str]],
) -> Iterator[ReportedNumber]:
    """Yield the numbers that lm-eval's own metrics give for one task or group, one a filter."""
    version = str(subtable(value, "versions").get(task, ""))
    leaves = groups.get(task, [])
    counted = [subtable(subtable(value, "n-samples"), name) for name in leaves or [task]]
    parts = tuple((name, logs[name]) for name in leaves if name in logs)
    better = subtable(subtable(value, "higher_is_better"), task)
    for name, metric in logged_metric(result, better).items():
        mean, error = _number(result.get(f"{metric},{name}")), _number(result.get(f"{metric}_stderr,{name}"))
        yield ReportedNumber(
            benchmark=benchmark_of(task),
            metric=metric,
            scorer=logged_scorer(name, version),
            n=sum(int(_number(each.get("effective")) or 0) for each in counted),
            date=date,
            source=CellSource(
                folder=path.parent,
                samples=logs.get(task),
                filter=name,
                metric=metric,
                parts=parts if len(parts) == len(leaves) else (),
            ),
            task=task,
            logged=None if mean is None else (mean, error),
            settings=settings,
            group=_part_of(task, groups),
        )


def _groups(value: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the tasks below each group that has a number, the largest groups first: groups may hold groups.

    Older releases list single tasks among the groups, with nothing in them.
    """
    below = subtable(value, "group_subtasks")
    results = value["results"]

    def leaves(name: str, above: frozenset[str]) -> list[str]:
        names = [each for each in below.get(name) or [] if each not in above]
        return [leaf for each in names for leaf in leaves(each, above | {name})] if names else [name]

    found = {name: sorted(set(leaves(name, frozenset()))) for name, names in below.items() if names}
    with_numbers = {name for name in found if any("," in key for key in results.get(name) or {})}
    order = sorted(with_numbers, key=lambda name: (-len(found[name]), name))
    return {name: found[name] for name in order}


def _samples(results: Path) -> dict[str, Path]:
    """Return the samples that were logged with a results file, by task: their names end in the same time."""
    match = re.fullmatch(r"results(_.+)\.json", results.name) or _TIME.search(results.name)
    if match is None:
        return _old_samples(results)
    found: dict[str, Path] = {}
    for ending in (".jsonl", ".json"):
        for path in results.parent.glob(f"samples_*{glob.escape(match[1])}{ending}"):
            task = path.name.removeprefix("samples_").removesuffix(f"{match[1]}{ending}")
            found.setdefault(task, path)
    return found


def _part_of(task: str, groups: Mapping[str, Sequence[str]]) -> str | None:
    """Return the largest group with a number that holds a task, or all tasks of a group, None where there is none."""
    own = set(groups.get(task, [task]))
    for group, tasks in groups.items():
        if group == task:  # those behind it are no larger
            return None
        if own <= set(tasks):
            return group
    return None


def _old_samples(results: Path) -> dict[str, Path]:
    """Return the samples beside a results file without a time: `samples_<task>`, or <model arguments>_<task>.

    Releases before 0.4.3 named them so. Where several files end in a task's name, none is its own for certain; where
    the rows do not say which of several filters they are of, as in 0.4.2, the numbers stand without samples.
    """
    value = read_json(results)
    found = {}
    for task, result in value["results"].items():
        for start in ("samples_", "*_"):
            names = (f"{start}{glob.escape(task)}.{ending}" for ending in ("jsonl", "json"))
            paths = [path for name in names for path in results.parent.glob(name)]
            if len(paths) == 1 and (len(logged_metric(result)) < 2 or _names_filters(paths[0])):
                found[task] = paths[0]
                break
    return found


def _names_filters(samples: Path) -> bool:
    try:
        return any("filter" in row for _, row in itertools.islice(read_rows(samples), 1))
    except DataError:  # said where the samples are read
        return True


def _number(value: object) -> float | None:
    """Return a finite number, or None for all else (lm-eval writes "N/A" and NaN)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # a whole number of hundreds of digits
        return None
    return number if number - number == 0 else None
