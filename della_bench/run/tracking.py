"""A run's scores in a tracker: trackio, Weights & Biases or MLflow, through their own clients."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from della_bench.errors import UsageError
from della_bench.results.schema import Score
from della_bench.run.watching import Ended, Step, Watcher
from della_bench.spec import MergeSpec
from della_bench.suggest import nearest

__all__ = ["TRACKERS", "Tracking"]

log = logging.getLogger(__name__)

Config = Mapping[str, object]
Metrics = Mapping[str, float]


class Tracking(Watcher):
    """Gives a tracker one run a model, with the spec as its settings, as soon as all of the model's steps have ended.

    A model of which nothing was done now was tracked by the run that did it, and is left out.
    """

    def __init__(self, tracker: str, project: str) -> None:
        """`tracker` is one of TRACKERS. Raises UsageError where there is none of that name, or it is not installed."""
        if tracker not in TRACKERS:
            raise UsageError(f"no tracker {tracker!r}{nearest(tracker, TRACKERS)}", argument="track")
        if find_spec(tracker) is None:
            raise UsageError(f"{tracker} is not installed: pip install {tracker}", argument="track")
        self._send, self._tracker, self._project = TRACKERS[tracker], tracker, project
        self._left: dict[str, int] = {}
        self._scores: dict[str, list[Score]] = {}
        self._new: set[str] = set()

    def planned(self, steps: Sequence[Step]) -> None:
        """Count each model's steps."""
        for step in steps:
            self._left[step.spec.digest] = self._left.get(step.spec.digest, 0) + 1

    def ended(self, step: Step, how: Ended) -> None:
        """Take a step's scores, and send all of a model's behind its last step."""
        digest = step.spec.digest
        self._scores.setdefault(digest, []).extend(how.scores)
        if how.how == "done":
            self._new.add(digest)
        self._left[digest] = self._left.get(digest, 1) - 1
        if self._left[digest] == 0 and digest in self._new:
            self._track(step.spec, self._scores[digest])

    def _track(self, spec: MergeSpec, scores: Sequence[Score]) -> None:
        """Send one model; a tracker that fails (no key, no network, a full disk) must not end an evaluation."""
        try:
            self._send(self._project, spec.file_name, _config(spec), _metrics(scores))
        except Exception as error:  # each client has errors of its own
            text = str(error).strip().partition("\n")[0] or type(error).__name__
            log.warning(
                "%s is not tracked by %s (%s); its scores are in its folder", spec.file_name, self._tracker, text
            )


def _config(spec: MergeSpec) -> dict[str, object]:
    return {**spec.as_keys(effective=True), "spec": str(spec), "digest": spec.digest}


def _metrics(scores: Sequence[Score]) -> dict[str, float]:
    """Return what is a number in the scores, each under `<benchmark>/<scorer>`."""
    found: dict[str, float] = {}
    for score in scores:
        name = f"{score['benchmark']}/{score['scorer']['name']}"
        ends: Sequence[float | None] = score["interval"] or (None, None)
        values = {
            "": score["value"],
            "/low": ends[0],
            "/high": ends[1],
            "/n": score["n"],
            "/unscored": score["unscored"],
        }
        found |= {f"{name}{part}": float(value) for part, value in values.items() if value is not None}
    return found


def _with_init(tracker: str) -> Callable[[str, str, Config, Metrics], None]:
    """Return how wandb's interface, which trackio has too, is given one run."""

    def send(project: str, name: str, config: Config, metrics: Metrics) -> None:
        client: Any = import_module(tracker)
        run = client.init(project=project, name=name, config=dict(config))
        run.log(dict(metrics))
        run.finish()

    return send


def _to_mlflow(project: str, name: str, config: Config, metrics: Metrics) -> None:
    mlflow: Any = import_module("mlflow")
    mlflow.set_experiment(project)
    with mlflow.start_run(run_name=name):
        mlflow.log_params(dict(config))
        # Names of tasks and scorers may hold what MLflow takes in no name.
        mlflow.log_metrics({re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII): each for key, each in metrics.items()})


TRACKERS: Mapping[str, Callable[[str, str, Config, Metrics], None]] = {
    "trackio": _with_init("trackio"),
    "wandb": _with_init("wandb"),
    "mlflow": _to_mlflow,
}
