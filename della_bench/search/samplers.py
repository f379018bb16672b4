"""Optuna's samplers and pruners as a search asks for them, and what is wrong with what was asked for."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from della_bench.errors import UsageError
from della_bench.search.settings import Race, SearchSettings
from della_bench.suggest import nearest

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

__all__ = ["check_sampler", "make_pruner", "make_sampler", "quiet"]

_RANDOM_FIRST = ("tpe", "gp", "cmaes")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from saying that parts of it are experimental, which is known, and from logging every trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{number}".encode()).digest()[:4], "little")


def make_sampler(settings: SearchSettings, number: int) -> BaseSampler:
    """Return the sampler that proposes trial `number`."""
    from optuna import samplers

    seed, options = _seed(settings.seed, number), dict(settings.sampler_options)
    quiet = {"warn_independent_sampling": False}
    if settings.sampler == "tpe":
        return samplers.TPESampler(**{"multivariate": True, "group": True, "constant_liar": True} | options, seed=seed)
    if settings.sampler == "gp":
        return samplers.GPSampler(**quiet | options, seed=seed)
    if settings.sampler == "cmaes":
        return samplers.CmaEsSampler(**quiet | options, seed=seed)
    if settings.sampler == "nsga2":
        return samplers.NSGAIISampler(**options, seed=seed)
    if settings.sampler == "qmc":
        more = {**quiet, "scramble": True, "warn_asynchronous_seeding": False} | options
        independent = samplers.RandomSampler(seed=seed)
        return samplers.QMCSampler(**more, seed=settings.seed, independent_sampler=independent)
    return samplers.RandomSampler(**options, seed=seed)


def make_pruner(settings: SearchSettings) -> BasePruner | None:
    """Return the pruner of Optuna's that the race uses; None where it is ours."""
    from optuna import pruners

    race = settings.race
    if race is None or race.pruner == "spending":
        return None
    if race.pruner == "wilcoxon":
        return pruners.WilcoxonPruner(**{"p_threshold": race.alpha} | dict(race.options))
    return pruners.SuccessiveHalvingPruner(**{"min_resource": 1} | dict(race.options))


def check_sampler(settings: SearchSettings) -> None:
    """Raise UsageError where an option of the sampler or of the pruner is none of Optuna's, or of a wrong kind.

    Also where a package that the sampler needs is missing.
    """
    race = settings.race or Race()
    asked: list[tuple[str, str, Mapping[str, Any], Callable[[], object]]] = [
        ("sampler", settings.sampler, settings.sampler_options, lambda: _tried(settings)),
        ("race", race.pruner, race.options, lambda: make_pruner(settings)),
    ]
    faults = []
    with quiet():
        for what, name, options, make in asked:
            try:
                make()
                if name == "cmaes":
                    import cmaes  # noqa: F401
            except (TypeError, ValueError, AttributeError, AssertionError) as error:
                given = ", ".join(f"{key}={value!r}" for key, value in options.items())
                faults.append(f"search.{what}: {name} with {given}: {_reason(error)}")
            except ImportError as error:
                faults.append(f"search.{what}: {name}: {error}: pip install 'della-bench[search]'")
    if faults:
        raise UsageError("\n".join(faults))


def _tried(settings: SearchSettings) -> None:
    """Make the sampler and, where the user gave options, let it propose: most options are looked at only then.

    Some begin with random proposals, and look at their other options later: these are tried without such a beginning,
    too.
    """
    if not settings.sampler_options:
        make_sampler(settings, 0)
        return
    _propose(make_sampler(settings, 0))
    if settings.sampler in _RANDOM_FIRST:
        options = {**settings.sampler_options, "n_startup_trials": 1}
        _propose(make_sampler(replace(settings, sampler_options=options), 0))


def _propose(sampler: BaseSampler) -> None:
    import optuna

    study = optuna.create_study(direction="maximize", sampler=sampler)
    for value in (0.25, 0.5, 0.75):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("a", 0, 1) + trial.suggest_float("b", 0, value))


def _reason(error: Exception) -> str:
    """Return why Optuna does not take an option; where there is none of its name, the nearest one."""
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return " ".join(str(error).split()) or type(error).__name__
    from inspect import signature

    from optuna import pruners, samplers

    kind = getattr(samplers, unknown[1], None) or getattr(pruners, unknown[1])
    known = [name for name in signature(kind).parameters if name not in ("seed", "args", "kwargs")]
    return f"no option {unknown[2]!r}{nearest(unknown[2], known)}"
