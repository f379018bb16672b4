"""Everything that is settled before the first merge: the space, how to search, the items, and where it all lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from della_bench.benchmarks import Benchmark
from della_bench.errors import Faults, UsageError
from della_bench.models.arguments import answering_arguments
from della_bench.run.options import Options
from della_bench.run.preflight import check_asked, unusable
from della_bench.run.scorer import Scorer
from della_bench.run.scorers import scorers_of
from della_bench.run.settings import DEFAULT_SEED
from della_bench.run.specs import alone, named_experts
from della_bench.run.tasks import Tasks
from della_bench.search.candidate import Origin
from della_bench.search.items import ItemSet, choose_splits, divide, document_hashes
from della_bench.search.proposals import require_optuna
from della_bench.search.samplers import check_sampler
from della_bench.search.scoring import Number, choose_number, is_paid
from della_bench.search.settings import SearchSettings
from della_bench.search.space import Space
from della_bench.search.storage import check_storage
from della_bench.spec import MergeSpec
from della_bench.suggest import nearest

__all__ = ["LATER", "Plan", "check_sources", "make_plan", "paid_scorers"]

LATER = ("arguments", "tasks", "judges")  # parts of a definition that the first releases did not write down
_MOST_POINTS = 100_000  # of a grid: all of them are made and shuffled before the first


@dataclass(frozen=True)
class Plan:
    """A search that can begin."""

    space: Space
    settings: SearchSettings
    options: Options
    sets: Mapping[str, Sequence[ItemSet]]
    tasks: Tasks
    rows: Mapping[str, Benchmark]  # by task
    numbers: Mapping[tuple[str, str], Number]  # by benchmark and set, whose number counts
    storage: str | None = None
    warm_start: tuple[Path, ...] = ()

    @property
    def out(self) -> Path:
        """The search's folder."""
        return self.options.out

    @property
    def runs(self) -> Path:
        """The folder of all run folders."""
        return self.options.out / "runs"

    @property
    def definition(self) -> dict[str, Any]:
        """What candidates and their scores depend on, in plain values."""
        items = {
            f"{each.benchmark}.{which}": f"{len(each.items)} of {each.task}"
            for which, sets in self.sets.items()
            for each in sets
        }
        scores = {"items": items, **self.answering, "judges": self.judges}
        return {**self.space.as_dict(), "search": {**self.settings.definition(), **scores}}

    @property
    def judges(self) -> dict[str, str]:
        """By benchmark who judges it, where a judge's number counts."""
        return {
            name: number.scorer.judge(self.options)
            for (name, _), number in self.numbers.items()
            if number.scorer is not None and number.scorer.judge is not None
        }

    @property
    def answering(self) -> dict[str, Any]:
        """What answers depend on beside the model and the items.

        arguments: the engine's. asked: lm-eval's settings, by task, where they are not all the default. tasks: digests
        of tasks whose files are the user's.
        """
        settings = {task: self.options.settings_of(row.name) for task, row in self.rows.items()}
        asked = {
            task: each.record() | ({} if each.seed == DEFAULT_SEED else {"seed": list(each.seed)})
            for task, each in settings.items()
        }
        arguments = answering_arguments(self.options.engine, self.options.arguments)
        asked = {task: record for task, record in asked.items() if record}
        return {
            "engine": self.options.engine,
            **({"asked": asked} if asked else {}),
            "arguments": json.loads(json.dumps(arguments, default=str)),
            "tasks": {task: digest for task, row in self.rows.items() if (digest := self.tasks.digest(row))},
        }

    @property
    def digest(self) -> str:
        """A digest of the definition and of the items themselves."""
        items = [[which, each.task, each.items] for which, sets in self.sets.items() for each in sets]
        whole = self.definition
        whole["search"] = {key: value for key, value in whole["search"].items() if value or key not in LATER}
        return hashlib.sha256(json.dumps([whole, items], sort_keys=True).encode()).hexdigest()

    def example(self) -> MergeSpec:
        """Return some spec of the space: what the engine is checked with."""
        return _example(self.space)

    def references(self) -> list[tuple[Origin, MergeSpec]]:
        """Return the sources that take part as they are: the base where something is held against it, the experts."""
        spec = self.example()
        named = {row for _, row, _ in self.settings.keep}
        found: list[tuple[Origin, MergeSpec]] = []
        if "base" in named:
            found.append(("base", alone(spec, spec.base, "base")))
        experts = named_experts(spec)
        wanted = experts if self.settings.experts else {name: each for name, each in experts.items() if name in named}
        found += [("expert", alone(spec, source, name)) for name, source in wanted.items()]
        return found


def make_plan(
    space: Space | None,
    settings: SearchSettings | None,
    options: Options,
    *,
    storage: str | None = None,
    warm_start: Sequence[Path] = (),
    faults: Faults | None = None,
) -> Plan:
    """Return the plan of a search: its tasks built, its items divided. Nothing is written, no model is loaded.

    options: of a run; its benchmarks are put in here. space, settings: None where they could not be read, and `faults`
    says why: what can be checked without them is. Raises UsageError, SpecError or DataError with all faults.
    """
    require_optuna()
    faults = faults or Faults()
    faults.of(lambda: check_storage(storage), None)
    if options.out.exists() and not options.out.is_dir():
        faults.add(f"out: {options.out} is a file")
    faults.add(*(f"warm start: there is no folder {path}" for path in warm_start if not path.is_dir()))
    faults.of(lambda: check_asked([_example(space)] if space else [], [options.settings], options), None)
    plan = None
    if settings is not None:
        faults.of(lambda: check_sampler(settings), None)
        faults.of(lambda: _check_grid(space, settings), None)
        faults.of(lambda: _check_rows(space, settings), None)
        plan = faults.of(lambda: _with_items(space, settings, options), None)
    faults.raise_them()
    assert plan is not None
    return replace(plan, storage=storage, warm_start=tuple(warm_start))


def _with_items(space: Space | None, settings: SearchSettings, options: Options) -> Plan | None:
    """Return the plan with its tasks built and its items divided; None without a space. Raises with all faults."""
    faults = Faults()
    default = {place: replace(each, split=None) for place, each in settings.items.items()}
    splits = faults.of(lambda: choose_splits(settings), choose_splits(replace(settings, items=default)))
    names = dict.fromkeys(task for _, task in splits.values())
    tasks = faults.of(
        lambda: Tasks(list(names), include_path=options.include_path, unsafe=options.unsafe, settings=options.settings),
        None,
    )
    if tasks is None:
        faults.raise_them()
        return None
    if groups := [row.name for row in tasks.benchmarks if len(tasks.leaves(row)) > 1]:
        faults.add(*(f"{name} is a group of tasks: name its tasks" for name in groups))
        faults.raise_them()
    rows = {row.task: row for row in tasks.benchmarks}
    hashes = faults.of(lambda: _hashes(tasks, rows), None)
    if hashes is None:
        faults.raise_them()
        return None
    numbers: dict[tuple[str, str], Number] = {}
    for (name, which), (_, task) in splits.items():
        try:
            wanted = settings.scorers.get(name)
            numbers[name, which] = choose_number(rows[task], name, tasks.task(rows[task]), wanted, options)
        except UsageError as error:
            faults.add(str(error))
    nothing: dict[str, list[ItemSet]] = {}
    sets = faults.of(lambda: divide(settings, splits, hashes), nothing)
    faults.add(*_unpaid(rows, numbers, options))
    faults.raise_them()
    if space is None:
        return None
    own = {row.name: vars(tasks.settings(row)) for row in tasks.benchmarks}
    options = replace(options, benchmarks=tuple(names), by_benchmark=own)
    return Plan(space, settings, options, sets, tasks, rows, numbers)


def _hashes(tasks: Tasks, rows: Mapping[str, Benchmark]) -> dict[str, list[str]]:
    tasks.build()
    return {task: document_hashes(tasks.task(row)) for task, row in rows.items()}


def _unpaid(rows: Mapping[str, Benchmark], numbers: Mapping[tuple[str, str], Number], options: Options) -> list[str]:
    """Return a fault for each benchmark whose judge costs money that nobody has allowed."""
    paid = dict.fromkeys(name for (name, _), number in numbers.items() if paid_scorers(rows, number, options))
    if options.max_cost is None:
        return [f"{name}: its judge costs money; --max-cost says how much the whole search may cost" for name in paid]
    return (
        []
        if options.max_cost
        else [f"{name}: its judge costs money, and --max-cost 0 lets it spend none" for name in paid]
    )


def paid_scorers(rows: Mapping[str, Benchmark], number: Number, options: Options) -> list[Scorer]:
    """Return who costs money of those who score a task: whose number counts, and who scores the finished runs."""
    found = {scorer.step: scorer for scorer in (number.scorer, *scorers_of(rows[number.task])) if scorer is not None}
    return [scorer for scorer in found.values() if is_paid(scorer, options)]


def _check_grid(space: Space | None, settings: SearchSettings) -> None:
    if space is None or settings.sampler != "grid":
        return
    if space.size is None:
        names = [each.name for each in space.all_dimensions if each.points is None]
        raise UsageError(f"sampler grid: {', '.join(names)}: a range without a step has no grid")
    if space.size > _MOST_POINTS:
        raise UsageError(
            f"sampler grid: {space.size:,} points, and at most {_MOST_POINTS:,} are gone through: take wider steps, or "
            "another sampler"
        )


def _check_rows(space: Space | None, settings: SearchSettings) -> None:
    """Raise UsageError where a score is to be held against a row that there will not be."""
    if space is None:
        return
    experts = named_experts(_example(space))
    if unknown := sorted({row for _, row, _ in settings.keep} - {"base", *experts}):
        raise UsageError(f"search.keep: no row {unknown[0]!r}{nearest(unknown[0], ['base', *experts])}")


def _example(space: Space) -> MergeSpec:
    return space.spec(space.middle(space.methods[0]))


def check_sources(plan: Plan, *, download: bool = True) -> None:
    """Raise UsageError where a source of the space cannot be opened, or does not fit the base: its shapes, its layers.

    What stands in the tensors is looked at only when they are merged. download: as `unusable` takes it.
    """
    specs = [plan.space.spec(proposal) for proposal in plan.space.corners()]
    different = {tuple(map(str, spec.experts)): spec for spec in specs}
    if faults := unusable(list(different.values()), plan.options, download=download):
        lines = dict.fromkeys(line for fault in faults.values() for line in str(fault).splitlines())
        raise UsageError("\n".join(lines))
