"""What a LoRA adapter's config and tensors mean (Hu et al., arXiv 2106.09685), read as PEFT reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from della_bench.checkpoint.model import unwrapped

__all__ = ["Rules", "Update", "refusals", "retargeted", "several_adapters", "updates"]

# Settings that make something else of an adapter than base + scaling * B A; each is refused where it is set.
_REFUSED = (
    "alora_invocation_tokens", "arrow_config", "layer_replication", "lora_bias", "megatron_config",
    "monteclora_config", "target_modules_to_tie", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora",
    "velora_config",
)  # fmt: skip
# Ways to begin that leave the base as it is; the others (pissa, olora, corda, loftq, ...) train on a changed base.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")
_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?(?(kind)|\.weight)"
)
# What a module of modules_to_save was before the training: peft 0.21 writes it beside the trained weights where the
# vocabulary was resized.
_UNTRAINED = re.compile(r"\.original_module\.[^.]+$")
_INNER = ".base_layer"  # what peft calls a module within a wrapper of it
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.[^.]+$)")


def refusals(config: Mapping[str, Any]) -> list[str]:
    """Return what in an adapter_config.json cannot be merged, in words."""
    if (kind := config.get("peft_type")) != "LORA":
        return [f"peft_type {kind}: only LORA adapters can be merged"]
    faults = [f"{key} is set: such an adapter cannot be merged" for key in _REFUSED if config.get(key)]
    if (beginning := config.get("init_lora_weights")) not in _BEGINNINGS:
        faults.append(f"init_lora_weights is {beginning!r}: the adapter was trained on a changed base")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1:
        faults.append(f"r is {rank!r}, not a positive whole number")
    if not isinstance(alpha, (int, float)):
        faults.append(f"lora_alpha is {alpha!r}, not a number")
    targets = config.get("target_parameters") or []
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        faults.append(f"target_parameters is {targets!r}, not a list of names")
    for key in ("rank_pattern", "alpha_pattern"):
        if not _are_patterns(config.get(key) or {}):
            faults.append(f"{key} is {config[key]!r}, not regular expressions with a positive number each")
    return faults


def _are_patterns(patterns: Any) -> bool:
    try:
        return all(re.compile(pattern) and value > 0 for pattern, value in patterns.items())
    except (AttributeError, TypeError, re.error):
        return False


class Rules:
    """Rank and scaling of a module as adapter_config.json has them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def rank(self, module: str) -> int:
        """Return the rank of a module's update: the first pattern that matches its name's end, else `r`."""
        return int(self._of("rank_pattern", module, self._config["r"]))

    def scaling(self, module: str) -> float:
        """Return alpha / r, or alpha / sqrt(r) with use_rslora (Kalajdzievski, arXiv 2312.03732)."""
        rank = self.rank(module)
        alpha = float(self._of("alpha_pattern", module, self._config["lora_alpha"]))
        return alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def _of(self, patterns: str, module: str, default: Any) -> Any:
        for pattern, value in (self._config.get(patterns) or {}).items():
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        return default


@dataclass
class Update:
    """What an adapter does to one parameter: replaces it, adds a product of factors, or both.

    The values are names in the adapter's file.
    """

    module: str
    replacement: str | None = None
    factors: dict[str, str] = field(default_factory=dict)  # by side: A (rank, in), B (out, rank)
    is_embedding: bool = False


def several_adapters(names: Iterable[str]) -> list[str]:
    """Return the names of the adapters whose factors an adapter's file holds, where they are more than one."""
    found = {match["adapter"] or "default" for name in names if (match := _FACTOR.fullmatch(name))}
    return sorted(found) if len(found) > 1 else []


def updates(names: Iterable[str]) -> dict[str, Update]:
    """Return {parameter: what the adapter does to it} from the names in an adapter's file."""
    by_parameter: dict[str, Update] = {}
    for own_name, whole_name in unwrapped(names).items():
        name = own_name.removeprefix(_PREFIX)
        if _UNTRAINED.search(name):
            continue
        if match := _FACTOR.fullmatch(name):
            update = by_parameter.setdefault(f"{match['module']}.weight", Update(match["module"]))
            update.factors[match["side"]] = whole_name
            update.is_embedding = match["kind"] is not None
        else:
            name = _WRAPPED.sub("", name)
            by_parameter.setdefault(name, Update(name.rpartition(".")[0])).replacement = whole_name
    return by_parameter


def retargeted(
    named: Mapping[str, Update], targets: Sequence[str], of_module: Callable[[str], Sequence[str]]
) -> dict[str, Update]:
    """Return updates by what they change where an adapter changes single parameters (`target_parameters`).

    peft wraps the module once for each of its parameters that a target names the end of, in the module's order. The
    adapter's names tell only how deep a wrapper lies: the factors of the first parameter are in the innermost one.

    of_module: returns the names of a module's own parameters, in its order.
    """
    by_parameter = {}
    for name, update in named.items():
        module = update.module
        while module.endswith(_INNER):
            module = module.removesuffix(_INNER)
        depth = (len(update.module) - len(module)) // len(_INNER)
        changed = [own for own in of_module(module) if any(f".{own}".endswith(f".{target}") for target in targets)]
        if update.factors and depth < len(changed):
            by_parameter[changed[-1 - depth]] = replace(update, module=changed[-1 - depth])  # whose rank has its name
        else:
            by_parameter[name] = update
    return by_parameter
