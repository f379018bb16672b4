"""Proposals by Optuna, by ask and tell, so that they can be repeated.

What is proposed next depends on the space, the seed and what was told so far, in its order, and on nothing else: each
trial's sampler is a new one, seeded by the search's seed and the trial's number, and whatever a sampler remembers it
reads from the trials. Trials that are under way count as well: tpe takes them for bad ones, so that it proposes nothing
beside them.

Asking goes on in memory; a trial is put into the storage when it has ended, with its number, in whatever order that is.
A search that is killed so leaves no half-told trial. It goes on from the trials that are in the storage, and from what
the folders of other candidates say was proposed. Where the storage is lost, the search asks again from the beginning,
and finds the candidates evaluated in their folders.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from della_bench.errors import UsageError
from della_bench.search.samplers import make_pruner, make_sampler, quiet
from della_bench.search.settings import SearchSettings
from della_bench.search.space import METHOD, Space
from della_bench.search.storage import JOURNAL, open_storage

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["Proposals", "require_optuna", "trial_number"]

log = logging.getLogger(__name__)

Direction = Literal["minimize", "maximize"]
# What these remember is not in their trials, or is made faster than read.
_ASKED_AGAIN = ("qmc",)


def require_optuna() -> None:
    """Raise UsageError that names the extra where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UsageError("searching needs Optuna: pip install 'della-bench[search]'") from None


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
        with quiet():
            self.study: Study = optuna.create_study(directions=directions, pruner=make_pruner(settings) or _nothing())
            self._kept: Study = self._open(directions)
        self._numbers = {trial_number(trial) for trial in self.kept}
        self._again: set[int] = set()  # numbers that an earlier start was proposed by the sampler

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
        numbers = [trial.user_attrs.get("number") for trial in trials if trial.state.is_finished()]
        whole = len(numbers) == len(trials) == len(set(numbers)) and all(isinstance(each, int) for each in numbers)
        return kept if whole else self._anew(directions)

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

        with quiet():
            directions: list[Direction] = ["maximize"] * len(self._settings.goal.parts)
            self._kept = self._anew(directions)
            self._numbers = set()

    @property
    def kept(self) -> list[FrozenTrial]:
        """The trials that have ended, as the storage has them, in the order of their numbers."""
        return sorted(self._kept.get_trials(deepcopy=False), key=trial_number)

    @property
    def waiting(self) -> int:
        """How many proposals wait to be asked."""
        return sum(trial.state.name == "WAITING" for trial in self.study.get_trials(deepcopy=False))

    def begin(self, first: Sequence[Mapping[str, Any]], known: Mapping[int, Mapping[str, Any]]) -> list[FrozenTrial]:
        """Take over the trials that have ended, which are returned, and let those be asked again that have not.

        first: what is proposed first. known: by a trial's number what was proposed by an earlier start. A number of
        neither, below one that is known, is asked for anew.
        """
        self._again = {number for number in known if number >= len(first)}
        with quiet():
            ended = {trial_number(trial): trial for trial in self.kept}
            if self._settings.sampler in _ASKED_AGAIN:
                ended = {}
            for number in range(max([len(first) - 1, *ended, *known], default=-1) + 1):
                if number in ended:
                    self.study.add_trial(ended[number])
                else:
                    proposal = first[number] if number < len(first) else {}
                    self.study.enqueue_trial(dict(known.get(number, proposal)))
        return list(ended.values())

    def ask(self) -> tuple[Trial, dict[str, Any]]:
        """Return the next trial and what it proposes."""
        with quiet():
            trials = self.study.get_trials(deepcopy=False)
            number = next((each.number for each in trials if each.state.name == "WAITING"), len(trials))
            self.study.sampler = make_sampler(self._settings, number)
            trial = self.study.ask()
            if number in self._again:
                _ = trial.relative_params  # it leaves in the trial what a sampler remembers of its own proposals
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
                found[each.name] = trial.suggest_int(
                    each.name, int(each.low), int(each.top), step=int(each.step or 1), log=each.log
                )
            else:
                found[each.name] = trial.suggest_float(each.name, each.low, each.top, step=each.step, log=each.log)
        return found

    def report(self, trial: Trial, look: int, value: float, items: Mapping[int, float]) -> bool:
        """Report a trial's value after a look, in percent; return whether Optuna's pruner stops it.

        items: the values of what it has seen, each under a number that stands for its item.
        """
        if self._settings.race is None or self._settings.goal.several:
            return False
        with quiet():
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
        """Tell how a trial ended; `keep` puts it into the storage.

        values: of a complete trial what is maximised; of a stopped one what it was when it was stopped. constraints: by
        name, above 0 where it is not kept. facts: what a reader of the storage may want to know.
        """
        from optuna.trial import TrialState

        with quiet():
            for name, value in constraints.items():
                trial.set_constraint(name, value)
            for name, fact in {"number": trial.number, **facts}.items():
                trial.set_user_attr(name, fact)
            race = self._settings.race
            if state == "stopped" and values is not None and race is not None and race.pruner == "wilcoxon":
                trial.report(values[0], step=1 << 20)  # else its last item would count as its value
            known = {"complete": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
            self.study.tell(trial, list(values or ()) if state == "complete" else None, state=known[state])

    def keep(self, trial: Trial) -> None:
        """Put a trial that has been told into the storage, unless it is there."""
        if trial.number in self._numbers:
            return
        with quiet():
            self._kept.add_trial(self.study.get_trials(deepcopy=False)[trial.number])
        self._numbers.add(trial.number)


def trial_number(trial: FrozenTrial) -> int:
    """Return the number of a trial of the storage, which has its trials in the order in which they ended."""
    return int(trial.user_attrs["number"])


def _nothing() -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()
