"""`della_merged`: lm-eval's transformers model type on a merge made in memory."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from della_bench.checkpoint.tokenizers import loading_tokenizer
from della_bench.devices import require_device
from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.models.arguments import (
    SPEC_NAMES,
    SPEED_ONLY,
    beside,
    option_faults,
    split_arguments,
)
from della_bench.models.build import adapt_config, build_model
from della_bench.models.merged import MergedModel
from della_bench.models.overwrite import check_writable, overwrite
from della_bench.models.residency import Residency
from della_bench.spec import MergeSpec

__all__ = ["DellaMergedLM"]

log = logging.getLogger(__name__)

# Arguments of transformers' from_pretrained that lm-eval hands on and that make sense on a merge.
_LOADING = frozenset({"attn_implementation", "experts_implementation", "device_map", "use_kernels"})
_HFLM = frozenset(inspect.signature(HFLM.__init__).parameters) - {"self", "kwargs", "pretrained"}
_OURS = frozenset({"resident"})
_DEFAULT_DEVICE = "cuda:0"  # what lm-eval's command line hands on where it was given none


class DellaMergedLM(MergedModel, HFLM):  # type: ignore[misc]
    """A merge as a model of lm-evaluation-harness, run by transformers.

    Takes the keys of a merge's spec beside HFLM's own arguments (device, batch_size, max_length, parallelize, ...).
    `tokenizer` and `dtype` belong to the spec. `resident` (disk, cpu or gpu) says where the sources stay between one
    merge and the next; by default free memory decides. The merge streams to the device; nothing is written to disk.
    With `engine=vllm` what is made is a `della_bench.models.vllm.DellaMergedVLLM`.
    """

    engine = "hf"
    chat_template_args: dict[str, Any]  # of HFLM

    def __new__(cls, **arguments: Any) -> Any:
        """Return the model type of the engine that the arguments name."""
        if cls is DellaMergedLM and arguments.get("engine") == "vllm":
            from della_bench.models.vllm import DellaMergedVLLM

            return DellaMergedVLLM(**arguments)
        return super().__new__(cls)

    def __init__(self, **arguments: Any) -> None:
        """Check the spec and the sources, then merge and load.

        Raises SpecError, CheckpointError or UsageError (no such device) with every fault, before any weight is read.
        """
        spec, options = self.check(arguments)
        self._resident = options.pop("resident", None)
        self._begin(spec, options, SPEED_ONLY[self.engine])
        super().__init__(
            pretrained=str(self.merge.base.folder),
            tokenizer=str(self.merge.tokenizer_folder),
            **options,
        )
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None and self.world_size == 1 and options.get("tp_plan") is None:
            # HFLM takes rank and world size from accelerate only where it counts several GPUs; without this, every
            # process of a launch on CPUs would answer every request.
            self._rank, self._world_size = accelerator.process_index, accelerator.num_processes

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> tuple[MergeSpec, dict[str, Any]]:
        """Return the spec and the engine's own arguments, with the device chosen; no source is opened.

        Raises SpecError or UsageError where the constructor would for the same arguments.
        """
        spec, options = split_arguments(arguments, ((_HFLM | _LOADING) - SPEC_NAMES) | _OURS, engine=cls.engine)
        if faults := option_faults(options):
            raise SpecError(faults)
        if options.get("device") is None:
            options["device"] = _default_device()
        require_device(options["device"])
        return spec, options

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> DellaMergedLM:
        """Create from a mapping, as lm-eval's command line does."""
        made: DellaMergedLM = super().create_from_arg_obj(
            arg_dict, _on_this_machine(beside(arg_dict, additional_config))
        )
        return made

    def remerge(self, spec: str | PathLike[str] | Mapping[str, Any] | MergeSpec, /, **keys: Any) -> None:
        """Do as `MergedModel.remerge` says, into the storage that the model's parameters have.

        Raises SpecError where they are offloaded, or split by `tp_plan`.
        """
        check_writable(self.model)
        super().remerge(spec, **keys)

    def _get_config(self, *args: Any, **kwargs: Any) -> None:
        super()._get_config(*args, **kwargs)
        adapt_config(self._config, self.merge)

    def _create_tokenizer(self, *args: Any, **kwargs: Any) -> None:
        with loading_tokenizer(self.merge.tokenizer_folder):
            super()._create_tokenizer(*args, **kwargs)
        self._finish_tokenizer()

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
        self._merge_device = "cpu" if spread else self.device
        self._residency = Residency(self._resident, self._merge_device)
        log.info("merging %s", self.spec)
        merge = self._residency.attach(self.merge)
        self._model = build_model(
            merge, self.config, self.AUTO_MODEL_CLASS, self._merge_device, progress=main, **loading
        )

    def _load_merge(self, merge: Merge) -> None:
        main = getattr(getattr(self, "accelerator", None), "is_main_process", True)
        overwrite(self.model, self._residency.attach(merge), self._merge_device, progress=main)
        self.model.config.name_or_path = merge.spec.display_name

    def _ask_through(self, named: str | None, chosen: str | None) -> None:
        arguments: dict[str, Any] = getattr(self, "chat_template_args")  # noqa: B009  (lm-eval gives it no type)
        others = {name: value for name, value in arguments.items() if name != "chat_template"}
        self.chat_template_args = others if named is None else {**others, "chat_template": named}

    @property
    def _facts(self) -> dict[str, Any]:
        return {"dtype": str(self.model.dtype), "device": self.device.type}

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes into its results: the spec, its digest, the sources and library versions."""
        return {"model_num_parameters": self.model.num_parameters(), **super().get_model_info()}


def _on_this_machine(additional: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return lm-eval's own settings, its default device (where it was not told any) replaced where that is not there.

    A device that the user asked for and that is not there stays an error; of the default one nobody can tell.
    """
    if not additional or additional.get("device") != _DEFAULT_DEVICE or torch.cuda.is_available():
        return additional
    device = _default_device()
    log.warning("device %s, lm-eval's default, is not on this machine; it is %s", _DEFAULT_DEVICE, device)
    return {**additional, "device": device}


def _default_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
