"""Finding what evaluations left on disk, in run folders and in plain `lm_eval --output_path` folders alike.

An evaluation is one results file of lm-eval with the samples of the same time beside it and the scores below it. Whose
it is stands in these files and in provenance.json, never in a folder's name. What cannot be read is a fault, told by
file, and what can is read all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from della_bench.benchmarks import benchmark_of
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE
from della_bench.results.evaluation import Evaluation, ReportedNumber, is_results_file, read_evaluation
from della_bench.results.layouts import foreign_evaluations, foreign_scores
from della_bench.results.schema import Score, items_path, read_score
from della_bench.results.settings import UNKNOWN, Settings
from della_bench.results.table import CellSource

__all__ = ["find_evaluations"]

_LOGGED = re.compile(r"samples_.+_\d{4}-\d\d-\d\dT.+")  # as lm-eval names them


def find_evaluations(paths: Sequence[Path], faults: list[str]) -> Iterator[Evaluation]:
    """Yield the evaluations in and below `paths` (folders, or results files), one folder after the other, by name.

    What cannot be read is appended to `faults`, a sentence each. Raises DataError where a path does not exist.
    """
    seen: set[tuple[object, ...]] = set()
    visited: set[tuple[int, int]] = set()
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", exit_code=USERS_FILE)
        if path.is_file():
            yield from _fresh(_file(path, faults), seen)
            continue
        for root, folders, files in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "scores")
            if not _is_new(Path(root), visited):  # a link to a folder above it
                folders.clear()
                continue
            yield from _fresh(_folder(Path(root), sorted(files), faults), seen)


def _is_new(folder: Path, visited: set[tuple[int, int]]) -> bool:
    """Return whether no path has led to a folder before, and note it."""
    status = folder.stat()
    place = status.st_dev, status.st_ino
    new = place not in visited
    visited.add(place)
    return new


def _file(path: Path, faults: list[str]) -> Iterator[Evaluation]:
    """Yield the evaluation of a results file that is named itself. Raises DataError where it is something else."""
    if not is_results_file(path):
        what = "lm-eval's samples; name the results file beside them" if path.name.startswith("samples_") else ""
        raise DataError(f"{path}: {what or 'no results file of lm-eval'}, or the folder", exit_code=USERS_FILE)
    yield from _folder(path.parent, [path.name], faults)


def _fresh(evaluations: Iterator[Evaluation], seen: set[tuple[object, ...]]) -> Iterator[Evaluation]:
    """Leave out what another path has led to already; one file may hold several models' numbers."""
    for evaluation in evaluations:
        numbers = tuple((each.benchmark, each.scorer["name"]) for each in evaluation.numbers)
        what = evaluation.results.resolve(), evaluation.who.fingerprint, numbers
        if what not in seen:
            seen.add(what)
            yield evaluation


def _folder(folder: Path, names: Sequence[str], faults: list[str]) -> Iterator[Evaluation]:
    results = [folder / name for name in names if is_results_file(folder / name)]
    scores = sorted((folder / "scores").glob("*.json"))
    yield from foreign_evaluations(folder, names, faults)
    if not results:
        if scores and "provenance.json" not in names and "spec.yaml" not in names:
            yield from foreign_scores(folder, scores, faults)
        elif scores or "provenance.json" in names or "spec.yaml" in names:
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
    own: dict[int, list[ReportedNumber]] = {index: [] for index in range(len(evaluations))}
    for path in scores:
        try:
            score = read_score(path)
        except DataError as error:
            faults.append(f"{error}; left out")
            continue
        owner = _owner(score, evaluations)
        if owner is None and (named := _samples_of(score)) and (folder / named).is_file():
            continue  # of an evaluation in the folder that nobody asked for
        if owner is None:
            faults.append(f"{path}: none or several of the evaluations in {folder} may be its own; left out")
        else:
            own[owner].append(_scored(path, score, evaluations[owner]))
    for index, evaluation in enumerate(evaluations):
        # What the scores folder holds of lm-eval's own metrics was made from the same samples.
        made = {(each.benchmark, each.scorer["name"]) for each in own[index]}
        logged = [each for each in evaluation.numbers if (each.benchmark, each.scorer["name"]) not in made]
        yield replace(evaluation, numbers=tuple(logged + own[index]))


def _owner(score: Score, evaluations: Sequence[Evaluation]) -> int | None:
    """Return which evaluation a score was made from: it names the samples, or only one model has the benchmark.

    Several evaluations of one model are told apart by their time: the latest is the one that was scored. None where the
    samples that it names are those of no evaluation.
    """
    samples = _samples_of(score)
    with_benchmark = []
    for index, evaluation in enumerate(evaluations):
        logs = [log for task, log in evaluation.samples.items() if benchmark_of(task) == score["benchmark"]]
        if samples and any(log.name == samples for log in evaluation.samples.values()):
            return index
        if logs:
            with_benchmark.append(index)
    if _LOGGED.fullmatch(samples):
        return None
    possible = with_benchmark or list(range(len(evaluations)))
    if len({evaluations[index].who.fingerprint for index in possible}) != 1:
        return None
    return max(possible, key=lambda index: (evaluations[index].date, str(evaluations[index].results)))


def _samples_of(score: Score) -> str:
    """Return the name of the file that a score was made from, "" where it does not say."""
    return Path(str(score["detail"].get("samples", ""))).name


def _scored(path: Path, score: Score, evaluation: Evaluation) -> ReportedNumber:
    benchmark, scorer = score["benchmark"], score["scorer"]
    items = items_path(path.parent.parent, benchmark, path.name.removesuffix(".json").removeprefix(f"{benchmark}."))
    logs = evaluation.samples
    named = _samples_of(score)
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
    return ReportedNumber(
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
