"""Finding what evaluations left on disk, in run folders and in plain `lm_eval --output_path` folders alike.

An evaluation is one `results_*.json` of lm-eval with the samples of the same time beside it and the scores below it.
Whose it is stands in these files and in provenance.json, never in a folder's name. What cannot be read is a fault,
told by file, and what can is read all the same.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from della_bench.benchmarks import benchmark_of
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_json
from della_bench.results.identity import Identity, identity_of
from della_bench.results.logged import logged_metric, logged_scorer
from della_bench.results.schema import Score, Scorer, items_path, read_score
from della_bench.results.settings import UNKNOWN, Settings, settings_of
from della_bench.results.table import CellSource

__all__ = ["Candidate", "Evaluation", "find_evaluations", "read_evaluation"]

_RESULTS = re.compile(r"results(_.*)?\.json")


@dataclass(frozen=True)
class Candidate:
    """A number on disk for one benchmark: a scorer's, or the one that lm-eval logged.

    `n` counts the items that were evaluated, `date` is when (seconds since 1970). `score` is None where the number
    comes out of the samples; `logged` is then what lm-eval's results say (value and standard error as shares).
    `settings` is how the benchmark was asked.
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


@dataclass(frozen=True)
class Evaluation:
    """One results file: whose it is, the samples logged with it and how it asked (by task), and its numbers."""

    who: Identity
    results: Path
    samples: Mapping[str, Path]
    date: float
    candidates: tuple[Candidate, ...]
    settings: Mapping[str, Settings] = field(default_factory=dict)


def find_evaluations(paths: Sequence[Path], faults: list[str]) -> Iterator[Evaluation]:
    """Yield the evaluations in and below `paths` (folders, or results files), one folder after the other, by name.

    What cannot be read is appended to `faults`, a sentence each. Raises DataError where a path does not exist.
    """
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", exit_code=USERS_FILE)
        if path.is_file():
            yield from _fresh(_folder(path.parent, [path.name], faults), seen)
            continue
        for root, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "scores")
            yield from _fresh(_folder(Path(root), sorted(files), faults), seen)


def _fresh(evaluations: Iterator[Evaluation], seen: set[Path]) -> Iterator[Evaluation]:
    """Leave out what another path has led to already."""
    for evaluation in evaluations:
        real = evaluation.results.resolve()
        if real not in seen:
            seen.add(real)
            yield evaluation


def _folder(folder: Path, names: Sequence[str], faults: list[str]) -> Iterator[Evaluation]:
    results = [folder / name for name in names if _RESULTS.fullmatch(name)]
    scores = sorted((folder / "scores").glob("*.json"))
    if not results:
        if scores or "provenance.json" in names or "spec.yaml" in names:
            faults.append(f"{folder}: half written: no results of lm-eval yet; left out")
        return
    found = []
    for path in results:
        try:
            found.append(read_evaluation(path))
        except DataError as error:
            faults.append(f"{error}; left out")
    yield from _with_scores(folder, found, scores, faults)


def _with_scores(
    folder: Path, evaluations: list[Evaluation], scores: Sequence[Path], faults: list[str]
) -> Iterator[Evaluation]:
    """Yield the evaluations of one folder with each score given to the one whose samples it was made from."""
    own: dict[int, list[Candidate]] = {index: [] for index in range(len(evaluations))}
    for path in scores:
        try:
            score = read_score(path)
        except DataError as error:
            faults.append(f"{error}; left out")
            continue
        owner = _owner(score, evaluations)
        if owner is None:
            faults.append(f"{path}: none or several of the evaluations in {folder} may be its own; left out")
        else:
            own[owner].append(_scored(path, score, evaluations[owner]))
    for index, evaluation in enumerate(evaluations):
        # What the scores folder holds of lm-eval's own metrics was made from the same samples.
        made = {(each.benchmark, each.scorer["name"]) for each in own[index]}
        logged = [each for each in evaluation.candidates if (each.benchmark, each.scorer["name"]) not in made]
        yield replace(evaluation, candidates=tuple(logged + own[index]))


def _owner(score: Score, evaluations: Sequence[Evaluation]) -> int | None:
    """Return which evaluation a score was made from: it names the samples, or only one model has the benchmark.

    Several evaluations of one model are told apart by their time: the latest is the one that was scored.
    """
    samples = Path(str(score["detail"].get("samples", ""))).name
    with_benchmark = []
    for index, evaluation in enumerate(evaluations):
        logs = [log for task, log in evaluation.samples.items() if benchmark_of(task) == score["benchmark"]]
        if samples and any(log.name == samples for log in evaluation.samples.values()):
            return index
        if logs:
            with_benchmark.append(index)
    possible = with_benchmark or list(range(len(evaluations)))
    if len({evaluations[index].who.fingerprint for index in possible}) != 1:
        return None
    return max(possible, key=lambda index: (evaluations[index].date, str(evaluations[index].results)))


def _scored(path: Path, score: Score, evaluation: Evaluation) -> Candidate:
    benchmark, scorer = score["benchmark"], score["scorer"]
    items = items_path(path.parent.parent, benchmark, path.name.removesuffix(".json").removeprefix(f"{benchmark}."))
    logs = evaluation.samples
    named = Path(str(score["detail"].get("samples", ""))).name
    fitting = [(task, log) for task, log in logs.items() if log.name == named]
    fitting = fitting or [(task, log) for task, log in logs.items() if benchmark_of(task) == benchmark]
    task, log = fitting[0] if fitting else (None, None)
    source = CellSource(
        folder=evaluation.results.parent,
        samples=log,
        score=path,
        items=items if items.is_file() else None,
        filter=score["detail"].get("filter"),
    )
    count = score["n"] + score["unscored"]
    return Candidate(
        benchmark=benchmark,
        metric=score["metric"],
        scorer=scorer,
        n=count,
        date=evaluation.date,
        source=source,
        task=task,
        score=score,
        settings=_settings(evaluation, benchmark, task),
    )


def _settings(evaluation: Evaluation, benchmark: str, task: str | None) -> Settings:
    """Return how the task behind a score was asked, or the one task of its benchmark."""
    of_benchmark = [each for name, each in evaluation.settings.items() if benchmark_of(name) == benchmark]
    if task is not None and task in evaluation.settings:
        return evaluation.settings[task]
    return of_benchmark[0] if len(of_benchmark) == 1 else UNKNOWN


def read_evaluation(path: Path) -> Evaluation:
    """Read one results file of lm-eval, with what it says of its tasks; scores beside it are not looked at.

    Raises DataError where it is no results file.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("results"), dict):
        raise DataError(f"{path}: no results of lm-eval: there is no table 'results'", exit_code=USERS_FILE)
    date = _number(value.get("date")) or path.stat().st_mtime
    who = identity_of(path, value)
    logs = _samples(path)
    groups = value.get("group_subtasks") or {}  # older releases list single tasks there, too, with nothing in them
    candidates: list[Candidate] = []
    settings = {}
    for task, result in value["results"].items():
        if isinstance(result, dict) and not groups.get(task):  # a group repeats what its tasks say
            settings[task] = settings_of(value, task)
            candidates += _logged(path, value, task, result, logs.get(task), date, settings[task])
    return Evaluation(who, path, logs, date, tuple(candidates), settings)


def _logged(
    path: Path,
    value: Mapping[str, Any],
    task: str,
    result: Mapping[str, object],
    log: Path | None,
    date: float,
    settings: Settings,
) -> Iterator[Candidate]:
    """Yield the numbers that lm-eval's own metrics give for one task, one a filter."""
    version = str(value.get("versions", {}).get(task, ""))
    counts = value.get("n-samples", {}).get(task, {})
    better = value.get("higher_is_better", {}).get(task, {})
    for name, metric in logged_metric(result, better).items():
        mean, error = _number(result.get(f"{metric},{name}")), _number(result.get(f"{metric}_stderr,{name}"))
        yield Candidate(
            benchmark=benchmark_of(task),
            metric=metric,
            scorer=logged_scorer(name, version),
            n=int(_number(counts.get("effective")) or 0),
            date=date,
            source=CellSource(folder=path.parent, samples=log, filter=name, metric=metric),
            task=task,
            logged=None if mean is None else (mean, error),
            settings=settings,
        )


def _samples(results: Path) -> dict[str, Path]:
    """Return the samples that were logged with a results file, by task: their names end in the same time."""
    time = results.name.removeprefix("results").removesuffix(".json")
    found: dict[str, Path] = {}
    for ending in (".jsonl", ".json"):
        for path in results.parent.glob(f"samples_*{glob.escape(time)}{ending}"):
            task = path.name.removeprefix("samples_").removesuffix(f"{time}{ending}")
            found.setdefault(task, path)
    return found


def _number(value: object) -> float | None:
    """Return a finite number, or None for all else (lm-eval writes "N/A" and NaN)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if number - number == 0 else None
