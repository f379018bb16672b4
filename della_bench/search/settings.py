"""How to search: what the key `search` of a space file says, and the command line's options over it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from della_bench.errors import SpecError
from della_bench.search.objective import Goal, read_goal, read_keep
from della_bench.suggest import nearest

__all__ = ["PRUNERS", "SAMPLERS", "SETS", "Race", "SearchSettings", "SetCounts", "read_duration", "read_settings"]

SAMPLERS = ("tpe", "gp", "cmaes", "nsga2", "grid", "qmc", "random")
SETS = ("search", "select", "test")
PRUNERS = ("spending", "wilcoxon", "halving")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Race:
    """How candidates are stopped early: by which of Optuna's pruners or ours, at which level, after how many items.

    block: items of each benchmark between two looks. options: a pruner's own.
    """

    alpha: float = 0.05
    block: int = 10
    pruner: str = "spending"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SetCounts:
    """From which split of a benchmark the items of a set come, and how many; None: the default."""

    split: str | None = None
    count: int | None = None


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    items: by benchmark ("" for all) and set (search, select, test) its split and count. scorers: by benchmark, whose
    number counts. sampler_options: Optuna's own. trials, seconds, patience: when to end; patience is the number of
    candidates in a row that bring nothing better. finalists: how many are scored on the items of selection.
    """

    benchmarks: tuple[str, ...]
    goal: Goal
    keep: tuple[tuple[str, str, float], ...] = ()
    sampler: str = "tpe"
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = 60
    seconds: float | None = None
    patience: int | None = None
    seed: int = 0
    race: Race | None = Race()
    items: Mapping[tuple[str, str], SetCounts] = field(default_factory=dict)
    scorers: Mapping[str, str] = field(default_factory=dict)
    finalists: int = 5
    experts: bool = True
    defaults: bool = True

    def definition(self) -> dict[str, Any]:
        """Return what candidates and their scores depend on, in plain values: not how long the search goes on."""
        value = {key: each for key, each in asdict(self).items() if key not in ("trials", "seconds", "patience")}
        value["items"] = {f"{name or 'all'}.{which}": asdict(each) for (name, which), each in self.items.items()}
        value["goal"] = self.goal.as_plain()
        value["keep"] = {name: f"{row} {number:+g}" for name, row, number in self.keep}
        value["benchmarks"] = list(self.benchmarks)
        return value


def read_settings(given: Mapping[str, Any], options: Mapping[str, Any]) -> SearchSettings:
    """Return the settings of a space file's `search`, with `options` of the command line (None: not given) over them.

    Raises SpecError with all faults.
    """
    values = {**given, **{key: value for key, value in options.items() if value is not None}}
    faults: list[str] = []
    inner = ("goal", "seconds", "sampler_options")  # what `maximize`, `time` and `sampler` become
    known = [*(each.name for each in fields(SearchSettings) if each.name not in inner), "maximize", "time"]
    for name in values:
        if name not in known:
            faults.append(f"search.{name}: unknown key{nearest(str(name), known)}")

    def read(name: str, reader: Callable[[Any], Any], default: Any) -> Any:
        if values.get(name) is None:
            return default
        try:
            return reader(values[name])
        except (ValueError, TypeError) as error:
            faults.append(f"search.{name}={values[name]!r}: {error}")
            return default

    benchmarks = read("benchmarks", _names, ())
    if not benchmarks and not values.get("benchmarks"):
        faults.append("search.benchmarks: missing; name at least one (--benchmarks A,B)")

    def of_benchmarks(name: str, reader: Callable[[Any, Sequence[str]], Any], default: Any) -> Any:
        """Read what names benchmarks; where they could not be read, nothing is said of it."""
        return read(name, lambda value: reader(value, benchmarks), default) if benchmarks else default

    sampler, sampler_options = read("sampler", _sampler, ("tpe", {}))
    seconds = read("time", read_duration, None)
    patience = read("patience", _at_least(1, "candidates"), None)
    trials = read("trials", _at_least(1, "candidates"), None if seconds or patience or sampler == "grid" else 60)
    race = values.get("race", True)
    settings = SearchSettings(
        benchmarks=benchmarks,
        goal=of_benchmarks("maximize", read_goal, read_goal("mean", benchmarks)),
        keep=of_benchmarks("keep", read_keep, ()),
        sampler=sampler,
        sampler_options=sampler_options,
        trials=trials,
        seconds=seconds,
        patience=patience,
        seed=read("seed", _at_least(0, ""), 0),
        race=None if race is False else read("race", _race, Race()),
        items=of_benchmarks("items", _items, {}),
        scorers=of_benchmarks("scorers", _scorers, {}),
        finalists=read("finalists", _at_least(1, "candidates"), 5),
        experts=read("experts", _flag, True),
        defaults=read("defaults", _flag, True),
    )
    if faults:
        raise SpecError(faults)
    return settings


def read_duration(value: object) -> float:
    """Return seconds: of 90, 90s, 30m, 2h, 1.5d. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", str(value))
    if found is None:
        raise ValueError("a time such as 90s, 30m, 2h or 1d")
    seconds = float(found[1]) * _UNITS[found[2] or "s"]
    if seconds <= 0:
        raise ValueError("a budget of zero: nothing could be evaluated")
    return seconds


def _names(value: object) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError("a list of benchmarks")
    found = tuple(name.strip() for name in names if name.strip())
    if names and not found:
        raise ValueError("a list of benchmarks, and all are blank")
    if len(set(found)) < len(found):
        raise ValueError("one stands there twice")
    return found


def _sampler(value: object) -> tuple[str, Mapping[str, Any]]:
    options: dict[str, Any] = {}
    if isinstance(value, Mapping):
        options = {str(key): each for key, each in value.items() if key != "name"}
        value = value.get("name", "tpe")
    if value not in SAMPLERS:
        raise ValueError(f"no such sampler{nearest(str(value), SAMPLERS)}")
    return str(value), options


def _race(value: object) -> Race:
    if value is True:
        return Race()
    if not isinstance(value, Mapping):
        raise ValueError("false, or alpha, block, pruner")
    own = {key: each for key, each in value.items() if key in ("alpha", "block", "pruner")}
    options = {str(key): each for key, each in value.items() if key not in own}
    race = Race(options=options, **own)
    if race.pruner not in PRUNERS:
        raise ValueError(f"no pruner {race.pruner!r}{nearest(str(race.pruner), PRUNERS)}")
    if options and race.pruner == "spending":
        unknown = next(iter(options))
        raise ValueError(f"unknown key {unknown!r}{nearest(unknown, ('alpha', 'block', 'pruner'))}")
    if isinstance(race.alpha, bool) or not isinstance(race.alpha, (int, float)) or not 0 < race.alpha < 1:
        raise ValueError("alpha is a chance between 0 and 1")
    _at_least(1, "items")(race.block)
    return race


def _items(value: object, benchmarks: Sequence[str]) -> dict[tuple[str, str], SetCounts]:
    """Read {search: 40, select: 24}, or the same below benchmarks; a set is a count or {split, count}."""
    if not isinstance(value, Mapping):
        raise ValueError("counts by set (search, select, test), for all or below each benchmark")
    places: dict[tuple[str, str], object] = {}
    faults = []
    for name, each in value.items():
        if name in benchmarks:
            if isinstance(each, Mapping):
                places.update({(str(name), str(which)): part for which, part in each.items()})
            else:
                faults.append(f"{name}: counts by set, such as {{search: 40}}")
        elif name in SETS:
            places["", str(name)] = each
        else:
            hint = nearest(str(name), (*SETS, *benchmarks))
            faults.append(f"{name!r} is neither a set of items nor a benchmark{hint}")
    found = {}
    for (name, which), part in places.items():
        try:
            found[name, which] = _set(which, part)
        except ValueError as error:
            faults.append(f"{name}: {error}" if name else str(error))
    if faults:
        raise ValueError("; ".join(faults))
    return found


def _set(which: str, value: object) -> SetCounts:
    if which not in SETS:
        raise ValueError(f"{which!r} is no set of items{nearest(which, SETS)}")
    if isinstance(value, Mapping):
        if unknown := set(value) - {"split", "count"}:
            raise ValueError(f"{which}: {sorted(map(str, unknown))[0]!r} is neither split nor count")
        count = None if value.get("count") is None else _count(which, value["count"])
        return SetCounts(None if value.get("split") is None else str(value["split"]), count)
    return SetCounts(None, _count(which, value))


def _count(which: str, value: object) -> int:
    try:
        return _at_least(1, "items")(value)
    except ValueError as error:
        raise ValueError(f"{which}: {error}") from None


def _scorers(value: object, benchmarks: Sequence[str]) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError("a scorer by benchmark")
    if unknown := [name for name in value if name not in benchmarks]:
        raise ValueError(f"{unknown[0]!r} is none of the benchmarks{nearest(str(unknown[0]), benchmarks)}")
    return {str(key): str(each) for key, each in value.items()}


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _at_least(least: int, what: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"a whole number of at least {least}" + (f" {what}" if what else ""))
        return value

    return read
