"""vLLM's loader for the load format `della_merged`: a merge streams into the model's parameters."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

from della_bench.checkpoint.canonical import HEAD
from della_bench.checkpoint.tensor import torch_dtype
from della_bench.errors import CheckpointError, SpecError
from della_bench.merge.stream import Merge
from della_bench.models.build import merged_dtype
from della_bench.models.residency import Residency
from della_bench.models.vllm_engine import versions
from della_bench.models.vllm_engine.settings import Settings
from della_bench.models.vllm_engine.sharing import Exchange

if TYPE_CHECKING:
    from torch import nn
    from vllm.config import ModelConfig
    from vllm.config.load import LoadConfig

__all__ = ["MergeLoader", "bytes_kept", "give_up", "unfilled"]

log = logging.getLogger(__name__)


@dataclass
class _Live:
    """What outlives a loader: vLLM makes a new one for every reload."""

    residency: Residency
    exchange: Exchange | None = None


_LIVE: WeakKeyDictionary[nn.Module, _Live] = WeakKeyDictionary()  # of each model of this process


class MergeLoader(BaseModelLoader):  # type: ignore[misc]
    """Loads the merge that `model_loader_extra_config` describes (see `Settings`); nothing is written to disk."""

    _names: list[str]

    def __init__(self, load_config: LoadConfig) -> None:
        """Raises SpecError where there is no spec, or a wrong one."""
        super().__init__(load_config)
        versions.log_like_vllm()
        self.settings = Settings.read(load_config.model_loader_extra_config)

    def download_model(self, model_config: ModelConfig) -> None:
        """Download base and experts where they are not on this machine."""
        Merge(self.settings.spec, trust_remote_code=model_config.trust_remote_code)

    def load_weights(self, model: Any, model_config: ModelConfig) -> None:
        """Merge into a model that vLLM has just made.

        Raises CheckpointError that lists the parameters which no tensor of the merge fills.
        """
        started = time.perf_counter()
        try:
            loaded = model.load_weights(self.get_all_weights(model_config, model))
            if loaded is None:
                log.warning("%s does not say which parameters it has loaded: not checked", type(model).__name__)
            elif missing := unfilled(model, loaded, self._names, quantized=model_config.quantization is not None):
                raise CheckpointError(
                    f"{self.settings.spec.base}: {type(model).__name__} has parameters that no tensor of the merge "
                    f"fills: {', '.join(missing)}"
                )
        except BaseException as error:
            self.settings.tell(error)
            give_up(model, error)
            raise
        log.info("merged by %s in %.1f s", self.settings.spec.merge_method, time.perf_counter() - started)

    def get_all_weights(self, model_config: ModelConfig, model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        """Return the merge as a stream of (name in the base's checkpoint, tensor on the model's device).

        vLLM calls it for a reload in place too. Raises SpecError where the model is not the spec's base or runs in
        another dtype.
        """
        merge = Merge(self.settings.spec, trust_remote_code=model_config.trust_remote_code)
        _check_engine(merge, model_config)
        device, group = versions.device(), versions.tensor_parallel()
        divided = group.size > 1 and self.settings.divide and Exchange.possible(group)
        if model not in _LIVE:
            _LIVE[model] = _Live(Residency(self.settings.resident, device))
        live = _LIVE[model]
        if self.settings.resident not in (None, live.residency.place):
            live.residency = Residency(self.settings.resident, device)
        live.exchange = Exchange(group, device) if divided else None
        live.residency.attach(merge, share=group.size if divided else 1)
        self._names = merge.names
        if live.exchange is None:
            stream = merge.stream(device)
        else:
            infos = {name: merge.info(name) for name in merge.names}
            outlines = [(name, info.shape, torch_dtype(info.dtype)) for name, info in infos.items()]
            stream = live.exchange.stream(outlines, lambda names: merge.stream(device, names))
        return _with_head(stream, merge, model_config)


def bytes_kept(model: nn.Module) -> int:
    """Return how many bytes of sources this worker keeps in memory for a model."""
    return _LIVE[model].residency.bytes_kept if model in _LIVE else 0


def give_up(model: nn.Module, error: BaseException) -> None:
    """Let the other workers know that this one's merge has failed."""
    if model in _LIVE and (exchange := _LIVE[model].exchange) is not None:
        exchange.fail(error)


def unfilled(model: Any, loaded: Iterable[str], streamed: Iterable[str], *, quantized: bool = False) -> list[str]:
    """Return the model's parameters that no tensor went into, in whole or in part.

    loaded: what the model says it has loaded, by its own names. streamed: the checkpoint's names. A parameter fused of
    several tensors (qkv_proj of q_proj, k_proj, v_proj) is filled when all of them were there. quantized: the model
    made its parameters anew while loading; only fused ones can be told then.
    """
    loaded, streamed = set(loaded), list(streamed)
    missing = set() if quantized else {name for name, _ in model.named_parameters()} - loaded
    packed: dict[str, list[str]] = getattr(model, "packed_modules_mapping", None) or {}
    tails = {_tail(name) for name in streamed}
    for name in loaded:
        parent, _, module = name.removesuffix(".weight").rpartition(".")
        if not name.endswith(".weight") or len(parts := packed.get(module, [])) < 2:
            continue
        there = [_tail(f"{parent}.{part}.weight") in tails for part in parts]
        if any(there):
            missing |= {f"{name} ({part})" for part, found in zip(parts, there, strict=True) if not found}
    return sorted(missing)


def _tail(name: str) -> str:
    """Return a name from its last number on: what comes before differs between checkpoints and models."""
    parts = name.split(".")
    last = max((index for index, part in enumerate(parts) if part.isdigit()), default=0)
    return ".".join(parts[last:])


def _check_engine(merge: Merge, model_config: ModelConfig) -> None:
    if Path(model_config.model).resolve() != merge.base.folder.resolve():
        raise SpecError(
            f"model={model_config.model}: load_format=della_merged loads base={merge.spec.base} and nothing else; a "
            "draft model needs a draft_load_config of its own in speculative_config"
        )
    wanted = merged_dtype(merge)
    if model_config.dtype != wanted:
        short = str(model_config.dtype).removeprefix("torch."), str(wanted).removeprefix("torch.")
        raise SpecError(f"dtype={short[0]}: the merge is in {short[1]}; give vLLM dtype={short[1]}")


def _with_head(
    stream: Iterator[tuple[str, torch.Tensor]], merge: Merge, model_config: ModelConfig
) -> Iterator[tuple[str, torch.Tensor]]:
    """Add the head that a tied base repeats in its file: vLLM has seen it there, and unties the model to load it."""
    heads = [name for name in merge.base.tensors if HEAD.search(name) and name not in merge.names]
    if not heads or not getattr(model_config, "word_embeddings_untied_by_checkpoint", False):
        yield from stream
        return
    shape = merge.base.tensors[heads[0]].shape
    if merge.vocabulary is not None:
        shape = (merge.vocabulary.size, *shape[1:])
    for name, tensor in stream:
        yield name, tensor
        if name.endswith(".weight") and tuple(tensor.shape) == tuple(shape) and "layers." not in name:
            yield heads[0], tensor
