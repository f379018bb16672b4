"""What one spec's folder holds already, and what is noted there as a run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from della_bench.errors import DataError
from della_bench.jsonfiles import write_json, write_whole
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.results.schema import Provenance, Score, read_provenance, read_score, score_path
from della_bench.run.benchmarks import Benchmark, Step
from della_bench.run.evaluation import Evaluated, find_evaluated
from della_bench.run.provenance import SEEDS, make_provenance, package_versions
from della_bench.spec import MergeSpec

__all__ = ["Options", "Work"]

# Arguments of the model types that decide how fast an answer comes, not which.
_SPEED_ONLY = frozenset({"batch_size", "max_batch_size", "device", "resident"})


@dataclass(frozen=True)
class Options:
    """What a run is asked for beside its specs.

    engine: hf or vllm. arguments: the model type's own. limit: only so many documents of each task. force: do again
    what is done. unsafe: let tasks run the model's programs. judge: of gsm8k; annotator: alpaca_eval's. max_cost: US
    dollars that judging one benchmark of one model may spend.
    """

    out: Path
    benchmarks: tuple[str, ...]
    engine: str = "hf"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    force: bool = False
    unsafe: bool = False
    judge: str = "exact"
    annotator: str = "alpaca_eval_gpt4"
    max_cost: Decimal | None = None

    @property
    def scoring(self) -> dict[str, Any]:
        """What a scorer is given."""
        known = {"judge": self.judge, "annotator": self.annotator, "max_cost": self.max_cost}
        return {**known, "limit": self.limit}


class Work:
    """One spec with its folder; `model` is the loaded model, None until one is needed."""

    def __init__(self, spec: MergeSpec, folder: Path, options: Options) -> None:
        """Open the sources and start to hash them. Raises CheckpointError."""
        self.spec, self.folder = spec, folder
        self.model: Any = None
        self._options = options
        self.inputs = Inputs(Merge(spec, trust_remote_code=bool(options.arguments.get("trust_remote_code"))))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that an evaluation depends on; waits for the input files' digests."""
        arguments = {key: value for key, value in self._options.arguments.items() if key not in _SPEED_ONLY}
        return {
            "digest": self.spec.digest,
            "fingerprint": self.inputs.fingerprint,
            "engine": self._options.engine,
            "arguments": arguments,
            "limit": self._options.limit,
            "versions": package_versions(self._options.engine),
            "seeds": dict(SEEDS),
        }

    def evaluated(self, each: Benchmark) -> Evaluated | None:
        """Return the evaluation of a benchmark that is complete and matches the settings."""
        if not any(self.folder.glob("results_*.json")):
            return None  # without waiting for the digests
        return find_evaluated(self.folder, each.task, self.settings)

    def scored(self, each: Benchmark, step: Step, evaluated: Evaluated) -> list[Score] | None:
        """Return the scores that a step made of exactly these samples with the same options, or None."""
        noted = self._steps().get(each.name, {}).get("scores", {}).get(step.name)
        if not isinstance(noted, dict) or noted.get("made_from") != self._made_from(step, evaluated):
            return None
        try:
            return [read_score(score_path(self.folder, each.name, name)) for name in noted["scorers"]]
        except DataError:  # gone or broken: it is made again
            return None

    def loaded(self, model: Any) -> None:
        """Take the loaded model, and write down what it is: spec.yaml and provenance.json."""
        self.model = model
        keys = yaml.safe_dump(self.spec.as_keys(), sort_keys=False, allow_unicode=True)
        write_whole(self.folder / "spec.yaml", keys)
        info = model.get_model_info()
        provenance = make_provenance(
            self.spec,
            fingerprint=self.inputs.fingerprint,
            files=self.inputs.files,
            engine=self._options.engine,
            device=str(getattr(model, "device", "")),
            dtype=str(info.get("model_dtype", "")),
            arguments=self._options.arguments,
            steps=self._steps(),
        )
        self._write(provenance)

    def note_evaluation(self, each: Benchmark, evaluated: Evaluated, started: float) -> None:
        """Write down that a benchmark was evaluated; scores of earlier samples are forgotten."""
        step = {
            "task": each.task,
            "results": evaluated.results.name,
            "started": started,
            "seconds": time.time() - started,
        }
        self._note(each, {**step, "scores": {}})

    def note_scores(self, each: Benchmark, step: Step, evaluated: Evaluated, scores: Sequence[Score]) -> None:
        """Write down that a step has scored these samples."""
        known = self._steps().get(each.name, {})
        names = [found["scorer"]["name"] for found in scores]
        done = {"made_from": self._made_from(step, evaluated), "scorers": names, "at": time.time()}
        self._note(each, {**known, "scores": {**known.get("scores", {}), step.name: done}})

    def _made_from(self, step: Step, evaluated: Evaluated) -> dict[str, Any]:
        version = self.settings["versions"]["della_bench"]
        options = self._options.scoring.get(step.name)  # the judge's name, for the step that asks it
        return {"samples": evaluated.samples.name, "options": options, "della_bench": version}

    def _note(self, each: Benchmark, step: Mapping[str, Any]) -> None:
        known = self._provenance()
        if known is not None:
            known["steps"] = {**known["steps"], each.name: dict(step)}
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
