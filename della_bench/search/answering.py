"""What answers: it holds one live engine, takes a spec and documents, and gives back what the model answered.

It knows nothing of the search, its files or its money: what goes in and out are plain values.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from della_bench.errors import DellaBenchError, MergeError
from della_bench.run.engine import Engine, forget_frames
from della_bench.run.evaluation import ask
from della_bench.run.options import Options
from della_bench.run.provenance import host_facts
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.spec import MergeSpec

__all__ = ["Answerer", "Answers", "Places"]

log = logging.getLogger(__name__)

Places = Mapping[str, tuple[int, ...]]
"""By task of lm-eval the documents that are asked, by their places in the data."""


@dataclass(frozen=True)
class Answers:
    """What lm-eval gives for some documents, as JSON has it.

    header: its results without the samples. samples: by task the rows that it logs. model: what the model says of
    itself, with `device` and `dtype`. seconds: of merging, and of generating with what the tasks do with the answers.
    host: the machine that this was done on.
    """

    header: Mapping[str, Any]
    samples: Mapping[str, list[dict[str, Any]]]
    model: Mapping[str, Any]
    seconds: Mapping[str, float]
    host: Mapping[str, Any] = field(default_factory=host_facts)


class _EngineFailedError(Exception):
    """The engine raised what is no error of this package: `why`."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


class Answerer:
    """One engine, started when the first spec comes, and started anew where it died."""

    def __init__(self, tasks: Tasks, options: Options, watch: Callable[[str, int, int], None]) -> None:
        """options: of a run; its engine, arguments and settings of lm-eval count."""
        self._tasks, self._options = tasks, options
        self._engine = Engine(options.engine, options.arguments, watch=watch)
        self._spec: MergeSpec | None = None
        self._model: Any = None

    def answer(self, spec: MergeSpec, places: Places) -> Answers:
        """Merge `spec`, unless it is the one that was merged last, and ask it the documents.

        An engine that dies is started anew and asked once more. Raises DellaBenchError with the reason where that does
        not help, or where the spec cannot be merged; it can be used on.
        """
        try:
            return self._once(spec, places)
        except _EngineFailedError as failed:
            log.info("the engine failed and is started anew: %s", failed.why)
        self.close()  # only now, as whatever handles an error holds what failed
        try:
            return self._once(spec, places)
        except _EngineFailedError as failed:
            why = failed.why
        self.close()
        reason = " ".join(str(why).split()) or "no reason given"
        raise MergeError(f"the engine failed twice: {type(why).__name__}: {reason}") from why

    def _once(self, spec: MergeSpec, places: Places) -> Answers:
        try:
            return self._answer(spec, places)
        except DellaBenchError:
            self._spec = None
            raise
        except Exception as error:  # whatever an engine may raise: its memory is full, its process is gone, ...
            log.debug("the engine failed", exc_info=True)
            failure = forget_frames(error)
        raise _EngineFailedError(failure)

    def _answer(self, spec: MergeSpec, places: Places) -> Answers:
        started = time.perf_counter()
        if self._spec != spec or self._model is None:
            self._spec = None
            self._model = self._engine.load(spec)
            self._spec = spec
        merged = time.perf_counter()
        header: dict[str, Any] = {}
        samples: dict[str, Any] = {}
        for settings, tasks in self._asked_alike(places):
            results = ask(
                self._model,
                tasks,
                settings,
                manager=self._tasks.manager,
                unsafe=self._options.unsafe,
                batch_size=self._options.arguments.get("batch_size"),
                device=self._options.arguments.get("device"),
            )
            samples |= results.pop("samples")
            parts = {key: {**header.get(key, {}), **part} for key, part in results.items() if isinstance(part, dict)}
            header = {**header, **results, **parts}
        info = dict(self._model.get_model_info())
        model = {**info["della_bench"], "device": str(getattr(self._model, "device", "")), "dtype": info["model_dtype"]}
        return Answers(
            header=_plain(header),
            samples={task: _plain(rows) for task, rows in samples.items()},
            model=_plain(model),
            seconds={"merge": merged - started, "generate": time.perf_counter() - merged},
        )

    def _asked_alike(self, places: Places) -> list[tuple[EvalSettings, list[Any]]]:
        """Return the built tasks, together those that are asked with the same settings: with their documents named."""
        found: list[tuple[EvalSettings, list[Any]]] = []
        for row in self._tasks.benchmarks:
            if row.task in places:
                plain = replace(self._options.settings_of(row.name), samples=None, limit=None)
                known = next((tasks for settings, tasks in found if settings == plain), None)
                if known is None:
                    found.append((plain, known := []))
                known.append(self._tasks.task(row))
        return [
            (
                replace(settings, samples={name: tuple(sorted(places[name])) for name in _names(tasks)}),
                tasks,
            )
            for settings, tasks in found
        ]

    def close(self) -> None:
        """Give the engine's memory back."""
        self._spec = self._model = None
        self._engine.close()


def _names(tasks: Sequence[Any]) -> list[str]:
    return [task.task_name for task in tasks]


def _plain(value: Any) -> Any:
    """Return what JSON makes of lm-eval's values: numpy's numbers, functions by their names, NaN as a text."""
    from lm_eval.utils import handle_non_serializable

    text = json.dumps(value, default=handle_non_serializable, ensure_ascii=False)
    return json.loads(text, parse_constant=str)  # NaN and infinities, which JSON does not have
