"""The numbers of a mergekit configuration, each looked for where mergekit looks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from della_bench.spec.keys import read_bool
from della_bench.spec.mergekit_table import Counterpart
from della_bench.spec.registry import find_method
from della_bench.spec.varying import Rule, Value, Varying, read_value, simplified

__all__ = ["Reader", "put_numbers"]


def put_numbers(
    out: dict[str, Any],
    method: Counterpart,
    models: list[tuple[str, dict[str, Any]]],
    shared: Mapping[str, object],
    faults: list[str],
) -> None:
    """Put the numbers into our keys."""
    read = Reader(shared, faults)
    if method.name == "slerp":
        if "t" not in shared:
            faults.append("parameters.t: missing, and slerp needs it")
        out["weights"] = [read.value("t", None)]
    elif method.weight:
        out["weights"] = [read.of_model("weight", model, None) for model in models]
        pairs = zip(models, out["weights"], strict=True)
        faults += [f"models: {source} has no weight, and mergekit needs one" for (source, _), w in pairs if w is None]
    if method.normalize is not None:
        out["normalize"] = read.flag("normalize", method.normalize)
    if method.lambda_:
        out["lambda"] = read.value("lambda", 1.0)
    if method.rescale is not None:
        out["density"] = [read.of_model("density", model, 1.0) for model in models]
        out["rescale"] = "l1" if read.flag("rescale", method.rescale) else "none"
    if method.epsilon:
        out["epsilon"] = [read.of_model("epsilon", model, 0.15) for model in models]
    for theirs, ours in method.options.items():
        option = find_method(method.name).option(ours)
        if theirs in method.per_model:
            default = None if option is None else option.default
            out[ours] = [read.of_model(theirs, model, default) for model in models]
        elif theirs in shared and option is not None and option.kind is float:
            out[ours] = read.value(theirs, option.default)
        elif theirs in shared:
            out[ours] = shared[theirs]


@dataclass(frozen=True)
class Reader:
    """Reads parameters where mergekit looks for them, and notes what cannot be read."""

    shared: Mapping[str, object]
    faults: list[str]

    def flag(self, key: str, default: bool) -> bool:
        """Return a flag of all models, which is the same for all tensors here."""
        try:
            return read_bool(self.shared.get(key, default))
        except ValueError as error:
            self.faults.append(f"parameters.{key}={self.shared[key]!r}: {error}")
            return default

    def value(self, key: str, default: float | None) -> Value | None:
        """Return a value of all models."""
        return self._first(key, [("parameters", self.shared)], default)

    def of_model(self, key: str, model: tuple[str, dict[str, Any]], default: float | None) -> Value | None:
        """Return a value of one model: its own, the shared one for what that has no rule for, then the default."""
        source, own = model
        return self._first(key, [(f"models: {source}", own), ("parameters", self.shared)], default)

    def _first(
        self, key: str, places: Sequence[tuple[str, Mapping[str, object]]], default: float | None
    ) -> Value | None:
        rules: list[Rule] = []
        for where, parameters in places:
            try:
                rules += _rules(parameters[key]) if parameters.get(key) is not None else []
            except ValueError as error:
                self.faults.append(f"{where}.{key}={parameters[key]!r}: {error}")
                return 1.0  # given, but of no use to the checks that follow
        if default is not None:
            rules.append(Rule(None, (default,)))
        return simplified(tuple(rules)) if rules else None


def _rules(setting: Any) -> list[Rule]:
    """Return the rules that mergekit reads in a setting, where a list of numbers is a gradient."""
    if isinstance(setting, list) and not any(isinstance(item, Mapping) for item in setting):
        setting = {"gradient": setting}
    value = read_value(setting)
    return list(value.rules) if isinstance(value, Varying) else [Rule(None, (value,))]
