"""All numbers of each model, and whose number each column shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from della_bench.benchmarks import BENCHMARKS
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE
from della_bench.results.cells import make_cell
from della_bench.results.evaluation import Evaluation, ReportedNumber
from della_bench.results.settings import Settings, column_names, plain_name
from della_bench.results.table import Cell, Row
from della_bench.suggest import nearest

__all__ = ["Gathered", "gather"]


@dataclass
class _Model:
    """All evaluations of one model: who it is (as its latest evaluation says) and the numbers that there are."""

    latest: Evaluation
    names: set[str] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    numbers: dict[str, list[ReportedNumber]] = field(default_factory=dict)
    advice: dict[str, None] = field(default_factory=dict)


class Gathered:
    """Models by fingerprint, the columns, and by column the scorers from the preferred to the last choice."""

    def __init__(self, models: dict[str, _Model], benchmarks: Sequence[str] | None, scorers: Mapping[str, str]) -> None:
        """Raises DataError where a benchmark or a scorer that is asked for is not there."""
        self._models = models
        self._several: list[str] = []
        self._shared: dict[str, tuple[tuple[int, str], ...]] = {}
        self.benchmarks, self._grouped = _columns(models, benchmarks)
        self._counts = {name: _scorer_counts(models, name) for name in self.benchmarks}
        self._order = {
            name: self._scorers(name, scorers.get(name, scorers.get(plain_name(name)))) for name in self.benchmarks
        }
        names = [*self.benchmarks, *map(plain_name, self.benchmarks)]
        if unknown := sorted(scorers.keys() - set(names)):
            name = unknown[0]
            raise DataError(f"scorer of {name!r}: no such column{nearest(name, names)}", exit_code=USERS_FILE)

    @property
    def fingerprints(self) -> list[str]:
        """The models, in a stable order."""
        return sorted(self._models)

    @property
    def notes(self) -> list[str]:
        """What a reader of the columns and names must know."""
        out = self._ways()
        for benchmark, order in self._order.items():
            if len(order) > 1:
                count = self._counts[benchmark]
                others = ", ".join(f"{name} for {count[name]}" for name in order[1:])
                out.append(
                    f"{benchmark}: by {order[0]} (models that have it: {count[order[0]]}); on disk too: {others}, "
                    f"which can be chosen as the scorer of {benchmark}"
                )
        for model in self._models.values():
            if len(model.names) > 1:
                other = ", ".join(sorted(model.names - {model.latest.who.name}))
                out.append(f"{model.latest.who.name}: the same model as {other} (equal fingerprints), shown once")
        for group, tasks in self._grouped.items():
            some = ", ".join(tasks[:2]) + (f", ... ({len(tasks)} in all)" if len(tasks) > 2 else "")
            out.append(f"{group} stands for its tasks, which can be named as benchmarks: {some}")
        return out + self._several + self._advice()

    def _advice(self) -> list[str]:
        """Return what runs said of models and their answers, with the models that it was said of."""
        of: dict[str, list[str]] = {}
        for model in self._models.values():
            for text in model.advice:
                of.setdefault(text, []).append(model.latest.who.name)
        return [f"{', '.join(sorted(names))}: {text}" for text, names in sorted(of.items())]

    def _ways(self) -> list[str]:
        """Say which benchmarks have several columns, because they were asked in several ways."""
        columns: dict[str, list[str]] = {}
        for name in self.benchmarks:
            columns.setdefault(plain_name(name), []).append(name)
        return [
            f"{name} was asked in {len(ways)} ways, each with a column of its own, which are not compared: "
            + "; ".join(way.removeprefix(f"{name} (").removesuffix(")") for way in ways)
            for name, ways in columns.items()
            if len(ways) > 1
        ]

    def _say_several(self, name: str, cell: Cell, numbers: Sequence[ReportedNumber]) -> None:
        """Say where a model was evaluated several times by one scorer, over other items or with other prompts."""
        same = [each for each in numbers if each.scorer == cell.scorer and each.metric == cell.metric]
        counts = sorted({each.n for each in same}, reverse=True)
        prompts = {each.settings.prompts for each in same if each.n == counts[0]} - {None}
        if len(counts) > 1:
            others = ", ".join(map(str, counts[1:]))
            self._several.append(f"{name}, {cell.benchmark}: shown over {counts[0]} items; on disk too: over {others}")
        elif len(prompts) > 1:
            self._several.append(
                f"{name}, {cell.benchmark}: evaluated with {len(prompts)} sets of prompts; the latest is shown"
            )

    def row(self, fingerprint: str, faults: list[str]) -> Row:
        """Return the row of one model; numbers that cannot be read are appended to `faults` and left out."""
        model = self._models[fingerprint]
        cells = {}
        for benchmark in self.benchmarks:
            cell = self._cell(model.latest.who.name, benchmark, model.numbers.get(benchmark, []), faults)
            if cell is not None:
                cells[benchmark] = cell
        latest = model.latest
        return Row(
            name=latest.who.name,
            method=latest.who.method,
            spec=latest.who.spec,
            fingerprint=fingerprint,
            cells=cells,
            engine=latest.who.engine,
            date=latest.date,
            folders=tuple(sorted(model.folders)),
        )

    def _cell(self, name: str, benchmark: str, numbers: Sequence[ReportedNumber], faults: list[str]) -> Cell | None:
        """Return the first readable cell: by the scorers' order, then the most items, then the latest."""
        order = self._order[benchmark]

        def preference(number: ReportedNumber) -> tuple[int, int, float, str]:
            return order.index(number.scorer["name"]), -number.n, -number.date, str(number.source.folder)

        for number in sorted(numbers, key=preference):
            try:
                cell = make_cell(number)
            except DataError as error:
                faults.append(f"{error}; left out")
                continue
            if cell.n + cell.unscored == 0:
                faults.append(f"{number.source.folder}: {benchmark} by {number.scorer['name']} has no items; left out")
                continue
            if cell.keys is not None and cell.item_set is not None:  # thousands of runs share their documents
                keys = self._shared.setdefault(cell.item_set, cell.keys)
                cell = cell if keys is cell.keys else replace(cell, keys=keys)
            if len(numbers) > 1:
                self._say_several(name, cell, numbers)
            return cell
        return None

    def _scorers(self, benchmark: str, wanted: str | None) -> list[str]:
        counts = self._counts[benchmark]
        order = sorted(counts, key=lambda name: (-counts[name], self._kind(benchmark, name), name))
        if wanted is None:
            return order
        if wanted not in counts:
            message = f"scorer {wanted!r} of {benchmark}: no score of that name{nearest(wanted, order)}"
            raise DataError(message, exit_code=USERS_FILE)
        return [wanted, *(name for name in order if name != wanted)]

    def _kind(self, benchmark: str, scorer: str) -> tuple[int, int]:
        """Return the rank of a scorer: judges, then programs, then lm-eval's filters in the order of the task."""
        rank = (1, 0)
        for model in self._models.values():
            for position, number in enumerate(model.numbers.get(benchmark, [])):
                if number.scorer["name"] == scorer:
                    if number.scorer["model"] is not None:
                        return 0, 0
                    return (2, position) if scorer.startswith("lm_eval") else (1, 0)
        return rank


def gather(evaluations: Iterable[Evaluation], benchmarks: Sequence[str] | None, scorers: Mapping[str, str]) -> Gathered:
    """Collect evaluations by model; `benchmarks` and `scorers` as `build_table` takes them."""
    models: dict[str, _Model] = {}
    for evaluation in _with_known_models(list(evaluations)):
        model = models.setdefault(evaluation.who.fingerprint, _Model(evaluation))
        if (evaluation.date, str(evaluation.results)) > (model.latest.date, str(model.latest.results)):
            model.latest = evaluation
        model.names.add(evaluation.who.name)
        model.advice |= dict.fromkeys(evaluation.advice)
        model.folders.add(evaluation.results.parent)
        for number in evaluation.numbers:
            model.numbers.setdefault(number.benchmark, []).append(number)
    _part_by_settings(models)
    return Gathered(models, benchmarks, scorers)


def _with_known_models(evaluations: list[Evaluation]) -> list[Evaluation]:
    """Give what only names a model to lm-eval's run of a checkpoint of that name, or of the samples that it names."""
    known: dict[str, set[int]] = {}
    for place, evaluation in enumerate(evaluations):
        if not evaluation.who.by_name:
            logs = (path.stem for path in evaluation.samples.values())
            for name in (Path(evaluation.who.name).name, *logs):
                known.setdefault(name, set()).add(place)
    out = []
    for evaluation in evaluations:
        places = known.get(evaluation.who.name, set()) if evaluation.who.by_name else set()
        whose = {evaluations[place].who.fingerprint: evaluations[place].who for place in places}
        out.append(replace(evaluation, who=next(iter(whose.values()))) if len(whose) == 1 else evaluation)
    return out


def _part_by_settings(models: Mapping[str, _Model]) -> None:
    """Give the numbers of one benchmark that were asked in different ways columns of their own."""
    ways: dict[str, list[tuple[str, Settings]]] = {}
    for fingerprint, model in models.items():
        for benchmark, numbers in model.numbers.items():
            ways.setdefault(benchmark, []).extend((fingerprint, each.settings) for each in numbers)
    columns = {benchmark: column_names(benchmark, found) for benchmark, found in ways.items()}
    for model in models.values():
        parted: dict[str, list[ReportedNumber]] = {}
        for benchmark, numbers in model.numbers.items():
            for each in numbers:
                column = columns[benchmark][each.settings]
                named = each if column == benchmark else replace(each, benchmark=column)
                parted.setdefault(column, []).append(named)
        model.numbers = parted


def _columns(
    models: Mapping[str, _Model], wanted: Sequence[str] | None
) -> tuple[list[str], Mapping[str, Sequence[str]]]:
    """Return the benchmarks that are there, the well-known ones first, or those asked for; and what groups stand for.

    A task that every model has as a part of a group which has a number itself is left to the group.
    """
    there = {benchmark for model in models.values() for benchmark in model.numbers}
    places = {name: place for place, name in enumerate(BENCHMARKS)}
    order = sorted(there, key=lambda name: (places.get(plain_name(name), len(places)), name))
    if wanted is None:
        inside = {name: _group_of(models, name) for name in order}
        left: dict[str, list[str]] = {}
        for name, group in inside.items():
            if group is not None:
                left.setdefault(group, []).append(name)
        return [name for name in order if inside[name] is None], left
    found: list[str] = []
    for name in wanted:
        columns = [name] if name in there else [each for each in order if plain_name(each) == name]
        if not columns:
            raise DataError(f"benchmark {name!r}: no run has it{nearest(name, order)}", exit_code=USERS_FILE)
        found += columns
    return list(dict.fromkeys(found)), {}


def _group_of(models: Mapping[str, _Model], column: str) -> str | None:
    """Return the group that a column is a part of, None where some evaluation has it without any."""
    groups = {each.group for model in models.values() for each in model.numbers.get(column, [])}
    return None if None in groups else min(map(str, groups), default=None)


def _scorer_counts(models: Mapping[str, _Model], benchmark: str) -> Counter[str]:
    """Return by scorer how many models have a number of it."""
    names = ({each.scorer["name"] for each in model.numbers.get(benchmark, [])} for model in models.values())
    return Counter(name for found in names for name in found)
