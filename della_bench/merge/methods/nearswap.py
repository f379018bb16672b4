"""NearSwap (alchemonaut 2024), as mergekit has it: an expert's weights where it is near the base."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from della_bench.merge.methods.vectors import scalar
from della_bench.spec import Numbers

__all__ = ["nearswap"]


def nearswap(base: torch.Tensor, experts: Sequence[torch.Tensor], numbers: Numbers, *, t: float) -> torch.Tensor:
    """Move each element from the base towards the one expert, by the share t / |expert - base|, at most wholly.

    So an element nearer than `t` becomes the expert's, and no other moves by more than `t`. Elementwise, in any shape.
    """
    (expert,) = experts
    share = (scalar(t, base) / (base - expert).abs().clamp(min=1e-6)).clamp(0, 1)
    return share * expert + (1 - share) * base
