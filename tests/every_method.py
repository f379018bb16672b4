"""What a spec of any merge method needs, so that a test can run over all of them."""

from __future__ import annotations

from typing import Any

from della_bench.spec import Method

__all__ = ["expert_count", "needed_keys"]


def expert_count(method: Method, most: int) -> int:
    """How many experts a merge by the method may have, at most `most` where any number will do."""
    return method.experts or max(method.least_experts, most)


def needed_keys(method: Method, density: float = 0.5, epsilon: float = 0.2) -> dict[str, Any]:
    """The keys that the method has no default for, beside base and experts; t is 0.5."""
    keys: dict[str, Any] = {"density": density} if method.drops else {}
    if method.uses("epsilon"):
        keys["epsilon"] = epsilon
    return keys | {option.name: 0.5 for option in method.options if option.default is None}
