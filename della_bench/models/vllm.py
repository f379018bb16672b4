"""`della_merged_vllm`: lm-eval's vLLM model type on a merge made inside vLLM's workers."""

from __future__ import annotations

import inspect
import json
import logging
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from della_bench.errors import DellaBenchError, MergeError, SpecError
from della_bench.merge.config import config_changes, dtype_of
from della_bench.merge.stream import Merge
from della_bench.merge.vocabulary import generation_changes
from della_bench.models.arguments import (
    SPEC_NAMES,
    SPEED_ONLY,
    option_faults,
    split_arguments,
)
from della_bench.models.build import adapt_config
from della_bench.models.merged import MergedModel
from della_bench.models.residency import check_place
from della_bench.models.vllm_engine import versions
from della_bench.models.vllm_engine.plugin import LOAD_FORMAT, WORKER_EXTENSION
from della_bench.models.vllm_engine.requirements import plugin_fault, require_architecture, require_vllm
from della_bench.models.vllm_engine.settings import Settings, as_error
from della_bench.spec import MergeSpec

try:
    from lm_eval.models.vllm_causallms import VLLM
except ImportError:
    require_vllm()
    raise

__all__ = ["DellaMergedVLLM"]

log = logging.getLogger(__name__)

# Arguments of vLLM that the merge decides, with what to write instead.
_REFUSED = {
    "model": "the engine runs the merge; write base=... and experts=...",
    "load_format": f"a merge is loaded by load_format={LOAD_FORMAT}",
    "model_loader_extra_config": "it carries the spec; write the spec's keys",
    "worker_extension_cls": "a merge's workers have their own",
    "tokenizer_revision": "a revision belongs to a source: tokenizer=org/name@revision",
    "lora_local_path": "an adapter is an expert, not an argument",
    "enable_lora": "an adapter is an expert, not an argument",
    "skip_tokenizer_init": "lm-eval needs the tokenizer",
}
_VLLM = frozenset(inspect.signature(VLLM.__init__).parameters) - {"self", "kwargs", "pretrained"}
_OURS = frozenset({"resident", "engine_seed", "device"})


class DellaMergedVLLM(MergedModel, VLLM):  # type: ignore[misc]
    """A merge as a model of lm-evaluation-harness, run by vLLM.

    Takes the keys of a merge's spec beside all of vLLM's own arguments. `tokenizer`, `dtype` and `seed` belong to the
    spec; vLLM's seed is `engine_seed`. `resident` (disk, cpu or gpu) says where each worker keeps the sources between
    one merge and the next; by default free memory decides. The merge streams into the workers' memory; nothing is
    written to disk.
    """

    engine = "vllm"
    packages = (*MergedModel.packages, "vllm")

    def __init__(self, **arguments: Any) -> None:
        """Check the spec, the sources and the architecture, then start the engine, whose workers merge.

        Raises SpecError or CheckpointError with every fault, before any weight is read, and MergeError where the engine
        does not start.
        """
        spec, options = self.check(arguments)
        self._resident = options.pop("resident", None)
        self._begin(spec, options, SPEED_ONLY[self.engine])
        require_architecture(self.merge)
        dtype = dtype_of(self.merge)
        if "engine_seed" in options:
            options["seed"] = options.pop("engine_seed")
        if changes := config_changes(self.merge):
            options["hf_overrides"] = {**changes, **(options.get("hf_overrides") or {})}
        if ends := generation_changes(self.merge.vocabulary, self.merge.base):
            options["override_generation_config"] = {**ends, **(options.get("override_generation_config") or {})}
        with tempfile.TemporaryDirectory(prefix="della_bench_") as folder:
            report = Path(folder) / "failure.json"
            try:
                super().__init__(
                    pretrained=str(self.merge.base.folder),
                    tokenizer=str(self.merge.tokenizer_folder),
                    dtype=dtype,
                    load_format=LOAD_FORMAT,
                    model_loader_extra_config=self._settings(spec, str(report)).as_config(),
                    worker_extension_cls=WORKER_EXTENSION,
                    **options,
                )
            except DellaBenchError:
                raise
            except Exception as error:
                raise _start_failure(error, report) from error
        if self.data_parallel_size == 1:
            versions.answer_without_a_bar(self.model)
        self.model_args["model_loader_extra_config"] = self._settings(spec).as_config()
        adapt_config(self._config, self.merge)
        self._finish_tokenizer()

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> tuple[MergeSpec, dict[str, Any]]:
        """Return the spec and the engine's own arguments; no source is opened and no engine started.

        Raises SpecError or UsageError where the constructor would for the same arguments.
        """
        known = (((_VLLM | versions.engine_arguments()) - SPEC_NAMES) | _OURS) - _REFUSED.keys()
        spec, options = split_arguments(arguments, known, engine=cls.engine, refused=_REFUSED)
        if faults := option_faults(options):
            raise SpecError(faults)
        _check_options(options)
        check_place(options.get("resident"), versions.device())
        return spec, options

    def remerge(self, spec: str | PathLike[str] | Mapping[str, Any] | MergeSpec, /, **keys: Any) -> None:
        """Do as `MergedModel.remerge` says, in place in every worker, and forget what the old model has computed.

        With `data_parallel_size` above 1 lm-eval starts its engines anew for every batch of requests: there only what
        they will be told changes.
        """
        super().remerge(spec, **keys)
        self.model_args["model_loader_extra_config"] = self._settings(self.spec).as_config()

    def _load_merge(self, merge: Merge) -> None:
        if self.data_parallel_size > 1:
            return
        try:
            reports = self.model.collective_rpc("della_remerge", args=(self._settings(merge.spec).as_config(),))
        except Exception as error:
            lost = "; the engine is gone, start anew" if versions.is_dead(error) else ""
            raise MergeError(f"vLLM's workers could not merge {merge.spec}: {error}{lost}") from error
        failures = [report for report in reports if report is not None]
        if failures:
            # A worker that gave up because another one had failed says only that.
            own = [report for report in failures if not report["message"].startswith("worker ")]
            raise as_error((own or failures)[0])
        # What the old weights have left: the key-value blocks of shared prompt beginnings.
        if not self.model.reset_prefix_cache():
            raise MergeError("vLLM did not empty its prefix cache, so it would answer from the old merge in part")

    def _settings(self, spec: MergeSpec, report: str | None = None) -> Settings:
        return Settings(spec, self._resident, report=report)

    def _set_chat_template(self, template: Any) -> None:
        super()._set_chat_template(template)
        self.hf_chat_template = template

    def _ask_through(self, named: str | None, chosen: str | None) -> None:
        if chosen is not None:
            self.hf_chat_template = chosen

    @property
    def _facts(self) -> dict[str, Any]:
        return {"dtype": f"torch.{dtype_of(self.merge)}", "device": str(versions.device())}


def _check_options(options: Mapping[str, Any]) -> None:
    """Raise SpecError with all arguments that contradict each other or this machine."""
    faults = []
    if options.get("max_length") is not None and options.get("max_model_len") is not None:
        faults.append("max_length and max_model_len: two names of one thing; give one")
    replicas, split = int(options.get("data_parallel_size") or 1), int(options.get("tensor_parallel_size") or 1)
    if replicas > 1:
        import torch

        if find_spec("ray") is None:
            faults.append(f"data_parallel_size={replicas}: Ray is not installed: pip install 'della-bench[ray]'")
        if torch.cuda.device_count() < replicas * split:
            faults.append(
                f"data_parallel_size={replicas}: lm-eval gives each of the {replicas} engines {split} GPU(s) through "
                f"Ray; here are {torch.cuda.device_count()}. `della-bench run --workers` keeps its engines over models"
            )
    if fault := plugin_fault():
        faults.append(fault)
    if faults:
        raise SpecError(faults)


def _start_failure(error: Exception, report: Path) -> DellaBenchError:
    """Return what to tell of an engine that did not start: the merge's own failure, where that is the reason."""
    if report.is_file():
        return as_error(json.loads(report.read_text(encoding="utf-8")))
    hint = ""
    if isinstance(error, RuntimeError) and "ngine core" in str(error):  # the first error is another process's
        hint = (
            "\nvLLM's log above has the first error. If it is memory for the KV cache: lower max_model_len or "
            "max_num_seqs, or change gpu_memory_utilization (on a CPU: VLLM_CPU_KVCACHE_SPACE, in GiB)"
        )
    return MergeError(f"vLLM could not start its engine: {error}{hint}")
