"""What one spec's folder holds already, and what is written down there as a run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from della_bench.benchmarks import Benchmark
from della_bench.errors import DataError
from della_bench.jsonfiles import write_json, write_whole
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.models.arguments import answering_arguments
from della_bench.results.chosen import copy_remembered
from della_bench.results.schema import Provenance, Score, read_provenance, read_score, score_path
from della_bench.run.evaluated import Evaluated, find_asked_alike, find_evaluated, is_asked
from della_bench.run.options import Options
from della_bench.run.provenance import make_provenance, package_versions
from della_bench.run.scorer import Scorer
from della_bench.run.settings import EvalSettings
from della_bench.run.watching import Seconds
from della_bench.spec import MergeSpec

__all__ = ["Asked", "RunFolder", "has_answers", "has_scores"]


@dataclass(frozen=True)
class Asked:
    """A benchmark with how it is asked; `task_digest` is of a task whose files are the user's own (`Tasks.digest`)."""

    benchmark: Benchmark
    settings: EvalSettings
    task_digest: str | None = None

    @property
    def step(self) -> str:
        """What provenance.json calls the evaluation."""
        label = self.settings.label
        return f"{self.benchmark.name} ({label})" if label else self.benchmark.name


class RunFolder:
    """One spec's folder; `loaded` says whether an engine has loaded the model since it was opened.

    Evaluations and scores may be written down by two threads.
    """

    def __init__(self, spec: MergeSpec, folder: Path, options: Options, *, inputs: Inputs | None = None) -> None:
        """Open the sources and start to hash them, unless `inputs` are there. Raises CheckpointError."""
        self.spec, self.folder = spec, folder
        self.loaded = False
        self.advice: Mapping[str, str] = {}
        self._options = options
        self._writing = threading.Lock()
        remote = bool(options.arguments.get("trust_remote_code"))
        self.inputs = inputs or Inputs(Merge(spec, trust_remote_code=remote))

    def record(self, asked: Asked) -> dict[str, Any]:
        """Return all that an evaluation depends on; waits for the input files' digests."""
        return {"fingerprint": self.inputs.fingerprint, **_record(self._options, asked)}

    def evaluated(self, asked: Asked) -> Evaluated | None:
        """Return the evaluation of a benchmark that is complete and was asked in this way."""
        if not any(self.folder.glob("results_*.json")):
            return None  # without waiting for the digests
        return find_evaluated(self.folder, asked.benchmark.task, self.record(asked))

    def asked_alike(self, asked: Asked) -> list[Evaluated]:
        """Return the evaluations of a benchmark asked in this way, of whichever documents; the latest is the first."""
        if not any(self.folder.glob("results_*.json")):
            return []  # without waiting for the digests
        return find_asked_alike(self.folder, asked.benchmark.task, self.record(asked))

    def scored(self, asked: Asked, scorer: Scorer, evaluated: Evaluated) -> list[Score] | None:
        """Return the scores that a step made of exactly these samples with the same options, or None."""
        if scorer.logged:
            return scorer.score(evaluated, self.folder, self._options)
        made_from = self._made_from(scorer, evaluated)
        done = [step.get("scores", {}).get(scorer.step) for step in self._steps().values()]
        noted = next((each for each in done if isinstance(each, dict) and each.get("made_from") == made_from), None)
        if noted is None:
            return None
        try:
            places = noted.get("places") or noted["scorers"]  # of earlier releases: a score had its scorer's name alone
            scores = [read_score(score_path(self.folder, asked.benchmark.name, name)) for name in places]
        except DataError:  # gone or broken: it is made again
            return None
        return scores if all(score["value"] is not None for score in scores) else None

    def record_model(self, *, device: str, dtype: str, host: Mapping[str, Any], advice: Mapping[str, str]) -> None:
        """Take note that the model is loaded, and write down what it is: spec.yaml and provenance.json."""
        self.loaded, self.advice = True, advice
        keys = yaml.safe_dump(self.spec.as_keys(), sort_keys=False, allow_unicode=True)
        write_whole(self.folder / "spec.yaml", keys)
        copy_remembered(self.folder, self.inputs.fingerprint)
        with self._writing:
            provenance = make_provenance(
                self.spec,
                fingerprint=self.inputs.fingerprint,
                files=self.inputs.files,
                engine=self._options.engine,
                host=host,
                device=device,
                dtype=dtype,
                advice=list(advice.values()),
                arguments=self._options.arguments,
                seeds=self._options.settings.seeds,
                steps=self._steps(),
            )
            self._write(provenance)

    def record_evaluation(self, asked: Asked, evaluated: Evaluated, started: float, spent: Seconds) -> None:
        """Write down that a benchmark was evaluated; scores of earlier samples are forgotten."""
        step = {
            "task": asked.benchmark.task,
            "results": evaluated.results.name,
            "started": started,
            "seconds": time.time() - started,
            "seconds_of": asdict(spent),
            "advice": list(evaluated.advice.values()),
        }
        self._record(asked, {**step, "scores": {}})

    def record_scores(
        self, asked: Asked, scorer: Scorer, evaluated: Evaluated, scores: Sequence[Score], seconds: float
    ) -> None:
        """Write down that a step has scored these samples, and how long that took."""
        known = self._steps().get(asked.step, {})
        names = [score["scorer"]["name"] for score in scores]
        places = [score["detail"].get("place", score["scorer"]["name"]) for score in scores]
        done = {"made_from": self._made_from(scorer, evaluated), "scorers": names, "places": places, "at": time.time()}
        done["seconds"] = seconds
        self._record(asked, {**known, "scores": {**known.get("scores", {}), scorer.step: done}})

    def _made_from(self, scorer: Scorer, evaluated: Evaluated) -> dict[str, Any]:
        return {"samples": evaluated.samples.name, **_scored_by(scorer, self._options)}

    def _record(self, asked: Asked, step: Mapping[str, Any]) -> None:
        with self._writing:
            known = self._provenance()
            if known is not None:
                known["steps"] = {**known["steps"], asked.step: dict(step)}
                self._write(known)

    def _steps(self) -> dict[str, Any]:
        """Return the noted steps; those of another model's files count for nothing."""
        known = self._provenance()
        same = known is not None and known["fingerprint"] == self.inputs.fingerprint
        return known["steps"] if known is not None and same else {}

    def _provenance(self) -> Provenance | None:
        path = self.folder / "provenance.json"
        try:
            return read_provenance(path) if path.is_file() else None
        except DataError:  # not whole, or of another release: what it noted is done again
            return None

    def _write(self, provenance: Provenance) -> None:
        write_json(self.folder / "provenance.json", provenance)


def has_answers(folder: Path, options: Options, asked: Asked) -> bool:
    """Return whether a folder has a benchmark's answers that were asked in this way, of whatever input files."""
    return is_asked(folder, asked.benchmark.task, _record(options, asked))


def has_scores(folder: Path, options: Options, scorer: Scorer) -> bool:
    """Return whether a folder has scores by a scorer with these options, of whatever answers."""
    try:
        steps = read_provenance(folder / "provenance.json")["steps"].values()
    except DataError:
        return False
    wanted = _scored_by(scorer, options)
    found = (step.get("scores", {}).get(scorer.step, {}).get("made_from", {}) for step in steps)
    return scorer.logged or any(wanted.items() <= each.items() for each in found)


def _record(options: Options, asked: Asked) -> dict[str, Any]:
    """Return all that an evaluation depends on beside the model.

    What is asked by lm-eval's defaults is recorded as releases before these settings did: it counts as done.
    """
    record = {
        "engine": options.engine,
        "arguments": answering_arguments(options.engine, options.arguments),
        "versions": package_versions(options.engine),
        "limit": asked.settings.limit,
        "seeds": asked.settings.seeds,
    }
    if changed := asked.settings.record():
        record["asked"] = changed
    if asked.task_digest is not None:
        record["task"] = asked.task_digest
    return record


def _scored_by(scorer: Scorer, options: Options) -> dict[str, Any]:
    """Return what a score depends on beside the answers."""
    judge = scorer.judge(options) if scorer.judge else None
    return {"options": judge, "della_bench": package_versions(options.engine)["della_bench"]}
