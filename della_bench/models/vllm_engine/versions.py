"""The one place that knows which parts of vLLM are used, and where its versions differ.

Read and tried with 0.32; read with 0.33, where all of this is the same. Neither has a public name for what `repair`,
`refresh_tied`, `tensor_parallel` and `is_dead` need.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = [
    "TensorParallel",
    "answer_without_a_bar",
    "device",
    "engine_arguments",
    "is_dead",
    "log_like_vllm",
    "model_of",
    "plugin_allowed",
    "refresh_tied",
    "register_loader",
    "repair",
    "supported_architectures",
    "tensor_parallel",
    "vllm_version",
]


def vllm_version() -> str:
    """Return the version of the vLLM that is installed, "" where there is none."""
    try:
        return version("vllm")
    except PackageNotFoundError:
        return ""


def register_loader(load_format: str, loader: type[Any]) -> None:
    """Register a loader under a name, once: vLLM warns where a name is taken."""
    from vllm.model_executor import model_loader

    known: dict[str, Any] = getattr(model_loader, "_LOAD_FORMAT_TO_MODEL_LOADER", {})
    if known.get(load_format) is not loader:
        model_loader.register_model_loader(load_format)(loader)


def log_like_vllm() -> None:
    """In a worker, where nobody has set up logging, let this package's messages go where vLLM's go."""
    ours, theirs = logging.getLogger("della_bench"), logging.getLogger("vllm")
    if not ours.handlers and not logging.getLogger().handlers:
        ours.handlers, ours.propagate = list(theirs.handlers), False
        ours.setLevel(theirs.level)


def plugin_allowed(name: str) -> bool:
    """Whether vLLM will load a plugin of this name: VLLM_PLUGINS, where it is set, lists those it loads."""
    import vllm.envs

    allowed = vllm.envs.VLLM_PLUGINS
    return allowed is None or name in allowed


def engine_arguments() -> frozenset[str]:
    """Return the names of all arguments that `vllm.LLM` takes."""
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    own = set(inspect.signature(LLM.__init__).parameters) - {"self", "kwargs"}
    return frozenset(own | {field.name for field in dataclasses.fields(EngineArgs)})


def answer_without_a_bar(llm: Any) -> None:
    """Let an engine answer where TQDM_DISABLE hides all bars: vLLM divides by the time its bar shows, then 0."""
    if not os.environ.get("TQDM_DISABLE"):
        return
    generate = llm.generate
    llm.generate = lambda *args, **options: generate(*args, **{**options, "use_tqdm": False})


def supported_architectures() -> frozenset[str]:
    """Return the model classes that vLLM has an implementation of."""
    from vllm import ModelRegistry

    return frozenset(ModelRegistry.get_supported_archs())


def device() -> torch.device:
    """Return the device of this worker's model."""
    import torch
    from vllm.platforms import current_platform

    return torch.device(current_platform.device_type)


@dataclass(frozen=True)
class TensorParallel:
    """The workers that split each tensor among themselves, as this one sees them; `ranks` are the global ones."""

    rank: int
    ranks: list[int]
    device_group: Any  # moves tensors of the model's device
    cpu_group: Any

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self.ranks)


def tensor_parallel() -> TensorParallel:
    """Return this worker's group."""
    from vllm.distributed.parallel_state import get_tp_group

    group = get_tp_group()
    return TensorParallel(group.rank_in_group, list(group.ranks), group.device_group, group.cpu_group)


def model_of(worker: Any) -> Any:
    """Return the torch module that a worker runs."""
    return worker.model_runner.get_model()


def repair(worker: Any) -> None:
    """Give the model's layers their parameters back after a reload that broke off, with whatever they hold.

    Until then they are on the meta device, and vLLM would mix the tensors of the broken reload into the next one.
    """
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

    finalize_layerwise_reload(model_of(worker), worker.vllm_config.model_config)


def refresh_tied(model: Any) -> None:
    """Have heads that share the embedding's weight prepare it anew after a reload.

    On a CPU a head computes with a packed copy, and vLLM's reload passes over a layer that no tensor is loaded into.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    seen: set[int] = set()
    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        if not isinstance(method, UnquantizedEmbeddingMethod):
            continue
        if id(layer.weight) in seen:
            method.process_weights_after_loading(layer)
        seen.add(id(layer.weight))


def is_dead(error: BaseException) -> bool:
    """Whether an error says that the engine is gone, so that no call to it can succeed any more."""
    from vllm.v1.engine.exceptions import EngineDeadError

    return isinstance(error, EngineDeadError)
