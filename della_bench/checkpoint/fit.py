"""Whether base and experts fit together, found out from the headers before any weight is read."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from della_bench.checkpoint.canonical import align, parameters, vocab_size
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import HostTensor, TensorInfo
from della_bench.checkpoint.tokenizers import tokenizer_difference
from della_bench.errors import CheckpointError

__all__ = ["Fit", "check_fit"]

log = logging.getLogger(__name__)

# Keys of config.json that say nothing of what a model computes.
_BOOKKEEPING = frozenset({
    "_name_or_path", "_attn_implementation", "architectures", "bos_token_id", "dtype", "eos_token_id", "pad_token_id",
    "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache", "vocab_size",
})  # fmt: skip


# What GPTQ, AWQ, bitsandbytes and fp8 quantisers store beside or instead of a weight.
_PACKED = re.compile(r"\.(qweight|qzeros|SCB|weight_scale(_inv)?|weight\.(absmax|quant_map|quant_state\..+))$")


@dataclass(frozen=True)
class Fit:
    """How an expert's tensors fit the base's: `names` maps each base parameter to its name in the expert."""

    expert: ModelFolder
    names: dict[str, str]
    base: ModelFolder
    parameters: dict[str, TensorInfo] = field(repr=False)  # the base's

    def tensor(self, name: str) -> HostTensor:
        """Return the expert's tensor in the base's shape: extra vocabulary rows cut, missing ones the base's."""
        tensor, shape = self.expert.tensor(self.names[name]), self.parameters[name].shape
        if tensor.shape == shape:
            return tensor
        rows, own = shape[0], tensor.to_torch()
        if len(own) > rows:
            return HostTensor.of(own[:rows])
        import torch

        base = self.base.tensor(name).to_torch()
        dtype = torch.promote_types(own.dtype, base.dtype)  # the base's rows must stay what they are
        return HostTensor.of(torch.cat([own.to(dtype), base[len(own) :].to(dtype)]))


def check_fit(base: ModelFolder, experts: Sequence[ModelFolder]) -> list[Fit]:
    """Return how each expert fits the base.

    Raises CheckpointError that lists every mismatch of every expert: another architecture, quantised weights, missing,
    unexpected or differently shaped parameters. Differences that a merge survives (dtype, config, tokenizer,
    vocabulary rows) are logged as warnings, once each.
    """
    faults: list[str] = []
    quantised = {source: fault for source in dict.fromkeys([base, *experts]) if (fault := _quantised(source))}
    faults += quantised.values()
    wanted = parameters(base)
    fits: dict[ModelFolder, Fit] = {}
    for expert in dict.fromkeys(experts):
        if base in quantised or expert in quantised:
            continue  # a list of all its parameters would only hide the reason
        if expert.model_type != base.model_type:
            faults.append(f"{expert.label}: is a {expert.model_type}, but {base.label} is a {base.model_type}")
            continue
        fits[expert] = _fit_one(base, wanted, expert, faults)
    if faults:
        raise CheckpointError("base and experts do not fit together:\n" + "\n".join(faults))
    for fit in fits.values():
        _warn(base, fit)
    return [fits[expert] for expert in experts]


def _quantised(source: ModelFolder) -> str:
    """Return what an error says of a source whose weights are quantised, else ""."""
    packed = [name for name in source.tensors if _PACKED.search(name)]
    if not packed and not source.config.get("quantization_config"):
        return ""
    example = f" ({packed[0]}{f' and {len(packed) - 1} more of its kind' if packed[1:] else ''})" if packed else ""
    return f"{source.label}: quantised weights cannot be merged; give the model in float{example}"


def _fit_one(base: ModelFolder, wanted: dict[str, TensorInfo], expert: ModelFolder, faults: list[str]) -> Fit:
    own, before = parameters(expert), len(faults)
    names = align(wanted, own)
    for name, info in wanted.items():
        if not info.is_float:
            continue  # comes from the base
        if name not in names:
            faults.append(f"{expert.label}: {name} is missing; the base has {info}")
            continue
        other = own[names[name]]
        if not other.is_float:
            faults.append(f"{expert.label}: {name} is {other}, which cannot be merged; the base has {info}")
        elif other.shape != info.shape and not _is_vocabulary(info, base, other, expert):
            faults.append(f"{expert.label}: {name} is {other}; the base has {info}")
    taken = set(names.values())
    faults += [
        f"{expert.label}: {name} is {info}; the base has no such parameter"
        for name, info in own.items()
        if name not in taken and info.is_float
    ]
    if expert.hint and len(faults) > before:
        faults.append(f"{expert.label}: {expert.hint}")
    return Fit(expert, names, base, wanted)


def _is_vocabulary(info: TensorInfo, base: ModelFolder, other: TensorInfo, expert: ModelFolder) -> bool:
    """Whether two tensors differ only in how many tokens there are: rows of an embedding or of a head."""
    if not info.shape or not other.shape or info.shape[1:] != other.shape[1:]:
        return False
    return info.shape[0] == vocab_size(base.config) and other.shape[0] == vocab_size(expert.config)


def _warn(base: ModelFolder, fit: Fit) -> None:
    expert, infos = fit.expert, fit.expert.tensors
    ours = fit.parameters
    shared = {name: infos[own] for name, own in fit.names.items() if ours[name].is_float}
    for name, info in shared.items():
        if info.shape != (shape := ours[name].shape):
            done = "its extra rows are left out" if info.shape[0] > shape[0] else "the missing rows are the base's"
            log.warning("%s: %s has shape %s, the base's has %s: %s", expert.label, name, info.shape, shape, done)
    notes = []
    dtypes = {f"{i.dtype} for {ours[name].dtype}" for name, i in shared.items() if i.dtype != ours[name].dtype}
    if dtypes:
        notes.append(f"dtypes ({', '.join(sorted(dtypes))})")
    keys = sorted(
        key
        for key in (base.config.keys() | expert.config.keys()) - _BOOKKEEPING
        if base.config.get(key) != expert.config.get(key)
    )
    if keys:
        values = ", ".join(f"{k}: {expert.config.get(k)} for {base.config.get(k)}" for k in keys)
        notes.append(f"config ({values})")
    if notes:
        log.warning("%s differs from the base in %s; the merge is the base's there", expert.label, " and ".join(notes))
    if difference := tokenizer_difference(base, expert):
        log.warning(
            "%s: its tokenizer differs from the base's (%s); the base's is used unless tokenizer= or chat_template= "
            "names another source",
            expert.label,
            difference,
        )
