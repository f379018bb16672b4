"""Which checkpoints hold quantised weights, and which only say so."""

from __future__ import annotations

import re

from della_bench.checkpoint.model import ModelFolder

__all__ = ["quantised_fault", "quantised_in_name"]

# What GPTQ, AWQ, bitsandbytes and fp8 quantisers store beside or instead of a weight.
_PACKED = re.compile(r"\.(qweight|qzeros|SCB|weight_scale(_inv)?|weight\.(absmax|quant_map|quant_state\..+))$")


def quantised_fault(source: ModelFolder) -> str:
    """Return what an error says of a source whose weights are quantised, else ""."""
    packed = [name for name in source.tensors if _PACKED.search(name)]
    if not packed and source.config.get("quantization_config"):
        packed = [name for name, info in source.tensors.items() if not info.is_float and len(info.shape) > 1]
    if not packed:
        return ""
    example = f" ({packed[0]}{f' and {len(packed) - 1} more of its kind' if packed[1:] else ''})"
    return f"{source.label}: quantised weights cannot be merged; give the model in float{example}"


def quantised_in_name(source: ModelFolder) -> str:
    """Return the quantisation that a config still names although the weights are floats, else ""."""
    named = source.config.get("quantization_config")
    if not named or quantised_fault(source):
        return ""
    return str(named.get("quant_method") or "quantization_config") if isinstance(named, dict) else str(named)
