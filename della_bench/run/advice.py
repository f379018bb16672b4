"""A word where a machine or a setting costs time or answers, each with the number that supports it."""

from __future__ import annotations

import math
import platform
from functools import cache
from pathlib import Path

from della_bench.merge.stream import Merge
from della_bench.run.answers import AnswerLog

__all__ = ["advice_on_answers", "advice_on_model", "has_bf16"]

_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16"}  # of x86, then of ARM


@cache
def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool | None:
    """Return whether the processor multiplies in bfloat16, None where nobody says (not Linux)."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    flags = [line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))]
    return bool(_BF16_FLAGS.intersection(*flags)) if flags else None


def advice_on_model(merge: Merge, dtype: str, device: str) -> dict[str, str]:
    """Return what to say of a model before it answers, by what it is about.

    bfloat16 on a processor that has to emulate it.
    """
    if not device.startswith("cpu") or "bfloat16" not in dtype or has_bf16() is not False:
        return {}
    count = sum(math.prod(merge.info(name).shape) for name in merge.names)
    return {
        "dtype": f"dtype=bfloat16 on a processor without bfloat16 arithmetic ({platform.machine()}, and none of "
        f"{', '.join(sorted(_BF16_FLAGS))} among its flags), which has to emulate it; dtype=float32 in the spec takes "
        f"{4 * count / 1e9:.2f} GB of memory instead of {2 * count / 1e9:.2f} for {count / 1e6:.1f} M parameters"
    }


def advice_on_answers(benchmark: str, log: AnswerLog, batch_size: object) -> dict[str, str]:
    """Return what to say of a benchmark's answers, by what it is about.

    Most of them were cut at the most tokens, some never left their thoughts, or each was asked for alone.
    """
    out = {}
    if log.cut * 2 > log.count:
        out["length"] = f"{benchmark}: {log.cut} of {log.count} answers were cut at {log.limit:,} tokens (max_gen_toks)"
    if log.unfinished:
        out["thoughts"] = f"{benchmark}: {len(log.unfinished)} of {log.count} answers never left their thoughts"
    if str(batch_size) == "1" and log.count > 1:
        out["batch"] = (
            f"{benchmark}: {log.count} answers took {log.seconds:.1f} s one at a time: batch_size is 1, lm-eval's "
            "default; 8 asks for several at once (on a GPU auto finds the number)"
        )
    return out
