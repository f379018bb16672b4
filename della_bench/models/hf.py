"""`della_merged`: lm-eval's transformers model type on a merge made in memory."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM

import della_bench
from della_bench.checkpoint import resolve
from della_bench.checkpoint.tokenizers import load_chat_template
from della_bench.errors import CheckpointError, SpecError
from della_bench.merge.stream import Merge
from della_bench.models.arguments import SPEC_NAMES, doubled_names, split_arguments
from della_bench.models.build import build_model

__all__ = ["DellaMergedLM"]

log = logging.getLogger(__name__)

# Arguments of transformers' from_pretrained that lm-eval hands on and that make sense on a merge.
_LOADING = frozenset({"attn_implementation", "experts_implementation", "device_map", "use_kernels"})
_HFLM = frozenset(inspect.signature(HFLM.__init__).parameters) - {"self", "kwargs", "pretrained"}
# They change how fast an answer comes, not which.
_SPEED_ONLY = frozenset({"batch_size", "max_batch_size", "logits_cache", "device", "device_map", "parallelize",
                         "max_memory_per_gpu", "max_cpu_memory", "offload_folder", "tp_plan"})  # fmt: skip


class DellaMergedLM(HFLM):  # type: ignore[misc]
    """A merge as a model of lm-evaluation-harness, run by transformers.

    Takes the keys of a merge's spec beside HFLM's own arguments (device, batch_size, max_length, parallelize, ...).
    `tokenizer` and `dtype` belong to the spec. The merge streams to the device; nothing is written to disk.
    """

    def __init__(self, **arguments: Any) -> None:
        """Check the spec and the sources, then merge and load.

        Raises SpecError or CheckpointError with every fault, before any weight is read.
        """
        self.spec, options = split_arguments(arguments, (_HFLM | _LOADING) - SPEC_NAMES, engine="hf")
        remote = bool(options.get("trust_remote_code"))
        self.merge = Merge(self.spec, trust_remote_code=remote)
        self._answer_options = {key: value for key, value in sorted(options.items()) if key not in _SPEED_ONLY}
        options.setdefault("device", _default_device())
        super().__init__(
            pretrained=str(self.merge.base.folder),
            tokenizer=str(resolve(self.spec.tokenizer or self.spec.base, weights=False, trust_remote_code=remote)),
            **options,
        )
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self.world_size == 1 and options.get("tp_plan") is None:
            # HFLM takes rank and world size from accelerate only where it counts several GPUs; without this, every
            # process of a launch on CPUs would answer every request.
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> DellaMergedLM:
        """Create from `key=value,...`; a key given twice is an error, where lm-eval would take the last."""
        if faults := doubled_names(arg_string):
            raise SpecError(faults)
        made: DellaMergedLM = super().create_from_arg_string(arg_string, additional_config)
        return made

    def _create_tokenizer(self, *args: Any, **kwargs: Any) -> None:
        super()._create_tokenizer(*args, **kwargs)
        if self.spec.chat_template is not None:
            remote = bool(kwargs.get("trust_remote_code"))
            self.tokenizer.chat_template = load_chat_template(self.spec.chat_template, trust_remote_code=remote)
        vocabulary = getattr(self.config.get_text_config(), "vocab_size", None)
        highest = max(self.tokenizer.get_vocab().values(), default=-1)
        if vocabulary is not None and highest >= vocabulary:
            raise CheckpointError(
                f"{self.spec.tokenizer or self.spec.base}: its tokenizer has ids up to {highest}, but the merged "
                f"vocabulary has {vocabulary} rows; take the base's tokenizer or one that fits"
            )

    def _create_model(
        self,
        pretrained: str,
        *,
        parallelize: bool | None = False,
        tp_plan: Any = None,
        gpus: int | None = None,
        max_memory_per_gpu: int | str | None = None,
        max_cpu_memory: int | str | None = None,
        offload_folder: str | None = "./offload",
        trust_remote_code: bool | None = False,
        **options: Any,
    ) -> None:
        loading = {key: value for key, value in options.items() if key in _LOADING}
        if tp_plan is not None:
            loading["tp_plan"] = tp_plan
        else:
            loading |= self._get_accelerate_args(
                parallelize=parallelize,
                device_map=loading.get("device_map"),
                max_memory_per_gpu=max_memory_per_gpu,
                max_cpu_memory=max_cpu_memory,
                offload_folder=offload_folder,
                gpus=gpus,
            )
        # A model that is spread over devices is merged on the CPU, tensor by tensor, and placed by transformers.
        spread = parallelize or tp_plan is not None or not isinstance(loading.get("device_map"), dict)
        main = getattr(getattr(self, "accelerator", None), "is_main_process", True)
        log.info("merging %s", self.spec)
        self._model = build_model(
            self.merge, self.config, self.AUTO_MODEL_CLASS, "cpu" if spread else self.device, progress=main, **loading
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the merge (spec and input files) and every argument that can change an answer."""
        facts = {
            "merge": self.merge.identity,
            "engine": "hf",
            "dtype": str(self.model.dtype),
            "device": self.device.type,
            "tokenizer": [self.tokenizer_name, self._tokenizer_digest],
            "arguments": self._answer_options,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def _tokenizer_digest(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's source and, by its digest, its chat template: lm-eval's caches are keyed by it."""
        template = json.dumps(self.tokenizer.chat_template, sort_keys=True)
        digest = hashlib.sha256(template.encode()).hexdigest()[:12]
        source = str(self.spec.tokenizer or self.spec.base)
        return f"{source}#{digest}".replace("/", "__")

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Make lm-eval's response cache safe across merges: it keys a response by the request alone."""
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:
            cache_hook.dbdict.encode_key = lambda key: f"{self.fingerprint}:{key}"

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes into its results: the spec, its digest, the sources and library versions."""
        packages = ("lm_eval", "torch", "transformers", "safetensors")
        return {
            "model_num_parameters": self.model.num_parameters(),
            "model_dtype": str(self.model.dtype),
            "model_revision": self.spec.digest[:12],
            "model_sha": self.spec.digest,
            "della_bench": {
                "version": della_bench.__version__,
                "name": self.spec.display_name,
                "spec": str(self.spec),
                "digest": self.spec.digest,
                "keys": self.spec.as_keys(effective=True),
                "sources": {c.label: str(c.folder) for c in (self.merge.base, *(f.expert for f in self.merge.fits))},
                "fingerprint": self.fingerprint,
                "engine": "hf",
                "versions": {package: version(package) for package in packages},
            },
        }


def _default_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
