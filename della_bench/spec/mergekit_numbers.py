"""The numbers of a mergekit configuration, each looked for where mergekit looks for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from della_bench.spec.keys import read_bool
from della_bench.spec.mergekit_table import Counterpart
from della_bench.spec.registry import find_method
from della_bench.spec.varying import Rule, Value, Varying, anchors, read_value, simplified, text

__all__ = ["OF_SLICE", "Reader", "put_numbers"]

OF_SLICE = "(slice)"  # the key of a rule for a slice alone, which mergekit's own rules do not have

_RULE_KEYS = ("filter", "value", OF_SLICE)


def put_numbers(
    out: dict[str, Any],
    method: Counterpart,
    models: list[tuple[str, dict[str, Any]]],
    shared: Mapping[str, object],
    ignored: list[str],
    faults: list[str],
) -> None:
    """Put the numbers into our keys; keys of rules that nobody reads go to `ignored`."""
    read = Reader(shared, ignored, faults)
    if method.name == "slerp":
        t = read.value("t", None)
        if t is None:
            faults.append("parameters.t: missing, and slerp needs it")
        elif not all(0 <= anchor <= 1 for anchor in anchors(t)):
            faults.append(f"parameters.t={shared['t']!r}: slerp goes from the base (0) to the other model (1)")
            t = 1.0
        out["weights"] = [t]
    elif method.weight:
        out["weights"] = [read.of_model("weight", model, None) for model in models]
        pairs = zip(models, out["weights"], strict=True)
        faults += [f"models: {source} has no weight, and mergekit needs one" for (source, _), w in pairs if w is None]
    if method.normalize is not None:
        out["normalize"] = read.flag("normalize", method.normalize)
    if method.lambda_:
        out["lambda"] = read.value("lambda", 1.0)
    if method.rescale is not None:
        out["density"] = [read.density(model) for model in models]
        out["rescale"] = "l1" if read.flag("rescale", method.rescale) else "none"
    if method.epsilon:
        out["epsilon"] = [read.of_model("epsilon", model, 0.15) for model in models]
    for theirs, ours in method.options.items():
        option = find_method(method.name).option(ours)
        if theirs in method.per_model:
            default = None if option is None else option.default
            out[ours] = [read.of_model(theirs, model, default) for model in models]
        elif shared.get(theirs) is None:
            continue
        elif option is None or option.kind is bool:
            out[ours] = read.flag(theirs, default=option is None or bool(option.default))
        elif option.kind is float:
            out[ours] = _at_most(option.most, read.value(theirs, option.default))
        else:
            out[ours] = shared[theirs]


@dataclass(frozen=True)
class Reader:
    """Reads parameters where mergekit looks for them, and notes what cannot be read."""

    shared: Mapping[str, object]
    ignored: list[str]
    faults: list[str]

    def flag(self, key: str, default: bool) -> bool:
        """Return a flag of all models, which is the same for all tensors here."""
        setting = self.shared.get(key)
        try:
            found = {_flag(value) for value in _values(setting) if value is not None}
            found |= set() if found and _is_for_all(setting) else {default}
        except ValueError as error:
            self.faults.append(f"parameters.{key}={setting!r}: {error}")
            return default
        if len(found) > 1:
            self.faults.append(f"parameters.{key}={setting!r}: true or false, and one for all tensors of a merge here")
        return found.pop()

    def value(self, key: str, default: float | None) -> Value | None:
        """Return a value of all models."""
        return self._first(key, [("parameters", self.shared)], default)

    def of_model(self, key: str, model: tuple[str, dict[str, Any]], default: float | None) -> Value | None:
        """Return a value of one model: its own, the shared one for what that has no rule for, then the default."""
        source, own = model
        return self._first(key, [(f"models: {source}", own), ("parameters", self.shared)], default)

    def density(self, model: tuple[str, dict[str, Any]]) -> Value:
        """Return a model's density; where it is above 1 all is kept, as with 1."""
        density = _at_most(1.0, self.of_model("density", model, 1.0))
        assert density is not None  # it has a default
        if not all(0 < anchor <= 1 for anchor in anchors(density)):
            self.faults.append(
                f"models: {model[0]}: density {text(density)}: above 0 and at most 1; a model of which nothing is kept "
                "is left out, or has a weight of 0"
            )
            return 1.0
        return density

    def _first(
        self, key: str, places: Sequence[tuple[str, Mapping[str, object]]], default: float | None
    ) -> Value | None:
        rules: list[Rule] = []
        for where, parameters in places:
            setting = parameters.get(key)
            listed = setting if isinstance(setting, list) else [setting]
            unread = {str(k) for item in listed if _is_rule(item) for k in item if k not in _RULE_KEYS}
            self.ignored.extend(f"{where}.{key}: {name}" for name in sorted(unread))
            try:
                rules += _rules(setting) if setting is not None else []
            except ValueError as error:
                self.faults.append(f"{where}.{key}={setting!r}: {error}")
                return 1.0  # given, but of no use to the checks that follow
        if default is not None:
            rules.append(Rule(None, (default,)))
        return simplified(tuple(rules)) if rules else None


def _at_most(limit: float | None, value: Value | None) -> Value | None:
    """Return numbers of which mergekit takes what is above a limit for the limit itself.

    A gradient that crosses the limit stays as it is: between two layers it would not be that of numbers cut off.
    """
    if limit is None or value is None:
        return value
    if not isinstance(value, Varying):
        return min(limit, value)
    crossing = [rule for rule in value.rules if min(rule.anchors) < limit < max(rule.anchors)]
    rules = (r if r in crossing else replace(r, anchors=tuple(min(limit, a) for a in r.anchors)) for r in value.rules)
    return simplified(tuple(rules))


def _rules(setting: Any) -> list[Rule]:
    """Return the rules that mergekit reads in a setting, where a list of numbers is a gradient."""
    setting = _plain(setting)
    if isinstance(setting, list) and not any(isinstance(item, Mapping) for item in setting):
        setting = {"gradient": setting}
    value = read_value(setting)
    return list(value.rules) if isinstance(value, Varying) else [Rule(None, (value,))]


def _plain(setting: Any) -> Any:
    """Return what mergekit reads of a setting, with 1 and 0 for true and false, which it takes for numbers."""
    if isinstance(setting, list):
        return [_plain_item(item) for item in setting]
    return _plain_item(setting)


def _plain_item(item: Any) -> Any:
    if _is_rule(item):
        value = item["value"]
        numbers = [_number(one) for one in value] if isinstance(value, list) else _number(value)
        own = {"slice": item[OF_SLICE]} if OF_SLICE in item else {}
        return own | {key: item[key] for key in ("filter",) if key in item} | {"value": numbers}
    if isinstance(item, Mapping) and "gradient" not in item:
        raise ValueError("a rule without a value; it may have a filter beside it, and nothing else")
    return _number(item)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _is_rule(setting: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(setting, Mapping) and "value" in setting


def _values(setting: Any) -> Iterator[Any]:
    """Yield all values in a setting, those of its rules and gradients."""
    for item in setting if isinstance(setting, list) else [setting]:
        value = item["value"] if _is_rule(item) else item
        yield from value if isinstance(value, list) else [value]


def _is_for_all(setting: Any) -> bool:
    """Return whether a setting has a value for every tensor."""
    items = setting if isinstance(setting, list) else [setting]
    return any(not _is_rule(item) or item.get("filter") in (None, "*", "") for item in items)


def _flag(value: object) -> bool:
    """Read a switch, also by the words that mergekit takes. Raises ValueError."""
    words = {"yes": True, "y": True, "on": True, "t": True, "no": False, "n": False, "off": False, "f": False}
    return words[value.lower()] if isinstance(value, str) and value.lower() in words else read_bool(value)
