"""Proposals by Optuna, by ask and tell, so that they can be repeated.

What is proposed next depends on the space, the seed and what was told so far, in its order, and on nothing else: each
trial's sampler is a new one, seeded by the search's seed and the trial's number, and whatever a sampler remembers it
reads from the trials. Asking goes on in memory; a trial is put into the storage when it has ended. A search that is
killed so leaves no half-told trial, and goes on from the trials that are in the storage. Where that is lost, the search
asks again from the beginning, is proposed the same candidates, and finds them evaluated in their folders.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from della_bench.errors import UsageError
from della_bench.jsonfiles import RowLog
from della_bench.search.settings import SearchSettings
from della_bench.search.space import METHOD, Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["Proposals", "check_sampler", "open_storage", "require_optuna"]

log = logging.getLogger(__name__)

Direction = Literal["minimize", "maximize"]
JOURNAL = "optuna.journal"
# What these remember is not in their trials, or is made faster than read.
_ASKED_AGAIN = ("qmc",)


@contextmanager
def _quiet() -> Iterator[None]:
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


def require_optuna() -> None:
    """Raise UsageError that names the extra where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError("searching needs Optuna: pip install 'della-bench[search]'") from None


def _seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{number}".encode()).digest()[:4], "little")


def _sampler(settings: SearchSettings, number: int) -> BaseSampler:
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


def check_sampler(settings: SearchSettings) -> None:
    """Raise UsageError where the sampler's options are none of Optuna's, or a package that it needs is missing."""
    with _quiet():
        try:
            _sampler(settings, 0)
            if settings.sampler == "cmaes":
                import cmaes  # noqa: F401
            if settings.race is not None:
                _pruner(settings)
        except (TypeError, ValueError) as error:
            raise UsageError(f"sampler {settings.sampler} or pruner: {error}") from None
        except ImportError as error:
            raise UsageError(f"sampler {settings.sampler}: {error}: pip install 'della-bench[search]'") from None


def _pruner(settings: SearchSettings) -> BasePruner | None:
    """Return the pruner of Optuna's that the race uses; None where it is ours."""
    from optuna import pruners

    race = settings.race
    if race is None or race.pruner == "spending":
        return None
    if race.pruner == "wilcoxon":
        return pruners.WilcoxonPruner(**{"p_threshold": race.alpha} | dict(race.options))
    return pruners.SuccessiveHalvingPruner(**{"min_resource": 1} | dict(race.options))


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """Return Optuna's storage at `url`, or the journal file in `folder`. Raises UsageError where it cannot be had."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    with _quiet():
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / JOURNAL
            with RowLog(path):  # cuts off what a kill has left of a row, behind which nothing could be written
                pass
            try:
                return JournalStorage(JournalFileBackend(str(path)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("%s: cannot be read (%s), and is made anew from the run folders", path, error)
                path.unlink()
                return JournalStorage(JournalFileBackend(str(path)))
        try:
            return RDBStorage(url)
        except Exception as error:  # of SQLAlchemy, of the database's driver, ...
            reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
            raise UsageError(f"{_without_password(url)}: cannot be reached: {reason}", argument="storage") from None


def _without_password(url: str) -> str:
    import re

    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", url)


class Proposals:
    """The study of a search: what it proposed, what was told, and what it proposes next."""

    def __init__(self, space: Space, settings: SearchSettings, folder: Path, url: str | None, name: str) -> None:
        """Open the study `name` of the storage, or make it; what it holds of ended trials is taken over.

        url: of the storage; a journal file in `folder` where it is None. Raises UsageError where it cannot be had.
        """
        import optuna

        require_optuna()
        self._space, self._settings, self._name = space, settings, name
        self._folder, self._url = folder, url
        self._storage = open_storage(folder, url)
        directions: list[Direction] = ["maximize"] * len(settings.goal.parts)
        with _quiet():
            self.study: Study = optuna.create_study(directions=directions, pruner=_pruner(settings) or _nothing())
            self._kept: Study = self._open(directions)
            if settings.sampler not in _ASKED_AGAIN:
                for trial in self._kept.get_trials(deepcopy=False):
                    self.study.add_trial(trial)

    def _open(self, directions: Sequence[Direction]) -> Study:
        import optuna

        try:
            kept = optuna.create_study(
                study_name=self._name, storage=self._storage, directions=directions, load_if_exists=True
            )
            trials = kept.get_trials(deepcopy=False)
        except (KeyError, ValueError, AssertionError) as error:  # a journal that is torn or no journal
            log.warning("%s: the study in Optuna's storage cannot be read, and is made anew: %s", self._name, error)
            return self._anew(directions)
        in_order = all(
            trial.state.is_finished() and trial.user_attrs.get("number") == n for n, trial in enumerate(trials)
        )
        return kept if in_order else self._anew(directions)

    def _anew(self, directions: Sequence[Direction]) -> Study:
        import optuna

        if self._url is None:
            (self._folder / JOURNAL).unlink(missing_ok=True)
            self._storage = open_storage(self._folder, None)
        else:
            optuna.delete_study(study_name=self._name, storage=self._storage)
        return optuna.create_study(study_name=self._name, storage=self._storage, directions=list(directions))

    def forget(self) -> None:
        """Begin from an empty study: what it holds does not fit what lies in the folders."""
        import optuna

        with _quiet():
            directions: list[Direction] = ["maximize"] * len(self._settings.goal.parts)
            self._kept = self._anew(directions)
            self.study = optuna.create_study(directions=directions, pruner=_pruner(self._settings) or _nothing())

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended, in their order."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @property
    def waiting(self) -> int:
        """How many proposals wait to be asked."""
        return sum(trial.state.name == "WAITING" for trial in self.study.get_trials(deepcopy=False))

    def enqueue(self, proposals: Sequence[Mapping[str, Any]]) -> None:
        """Let these be proposed first, those that have been already left out: they are the first trials."""
        with _quiet():
            for proposal in proposals[len(self.study.trials) :]:
                self.study.enqueue_trial(dict(proposal))

    def ask(self) -> tuple[Trial, dict[str, Any]]:
        """Return the next trial and what it proposes."""
        with _quiet():
            trials = self.study.get_trials(deepcopy=False)
            number = next((each.number for each in trials if each.state.name == "WAITING"), len(trials))
            self.study.sampler = _sampler(self._settings, number)
            trial = self.study.ask()
            return trial, self._suggested(trial)

    def _suggested(self, trial: Trial) -> dict[str, Any]:
        found: dict[str, Any] = {}
        by_name = {each.name: each for each in self._space.all_dimensions}
        if METHOD in by_name:
            found[METHOD] = trial.suggest_categorical(METHOD, list(by_name[METHOD].choices or {}))
        for each in self._space.dimensions(self._space.method_of(found)):
            if each.choices is not None:
                found[each.name] = trial.suggest_categorical(each.name, list(each.choices))
            elif each.whole:
                high = int((each.grid or [each.high])[-1])
                found[each.name] = trial.suggest_int(
                    each.name, int(each.low), high, step=int(each.step or 1), log=each.log
                )
            else:
                high_ = float((each.grid or [each.high])[-1])
                found[each.name] = trial.suggest_float(each.name, each.low, high_, step=each.step, log=each.log)
        return found

    def report(self, trial: Trial, look: int, value: float, items: Mapping[int, float]) -> bool:
        """Report a trial's value after a look, in percent; return whether Optuna's pruner stops it.

        items: the values of what it has seen, each under a number that stands for its item.
        """
        if self._settings.race is None or self._settings.goal.several:
            return False
        with _quiet():
            if self._settings.race.pruner == "wilcoxon":
                for place, item in items.items():
                    trial.report(item, step=place)
            else:
                trial.report(value, step=look)
            return self._settings.race.pruner != "spending" and trial.should_prune()

    def tell(
        self,
        trial: Trial,
        state: str,
        values: Sequence[float] | None,
        constraints: Mapping[str, float],
        facts: Mapping[str, Any],
    ) -> None:
        """Tell how a trial ended, and keep it in the storage.

        values: of a complete trial what is maximised; of a stopped one what it was when it was stopped. constraints: by
        name, above 0 where it is not kept. facts: what a reader of the storage may want to know.
        """
        from optuna.trial import TrialState

        with _quiet():
            for name, value in constraints.items():
                trial.set_constraint(name, value)
            for name, fact in {"number": trial.number, **facts}.items():
                trial.set_user_attr(name, fact)
            race = self._settings.race
            if state == "stopped" and values is not None and race is not None and race.pruner == "wilcoxon":
                trial.report(values[0], step=1 << 20)  # else its last item would count as its value
            known = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
            self.study.tell(trial, list(values or ()) if state == "complete" else None, state=known[state])
            if trial.number >= len(self._kept.get_trials(deepcopy=False)):
                self._kept.add_trial(self.study.get_trials(deepcopy=False)[trial.number])


def _nothing() -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()
