"""Reading the slices and modules of a mergekit configuration: what they say, as models with numbers for each slice.

A setting of a slice, or of a source in one, becomes a rule for that slice of the model's own setting, before those of
the configuration as a whole: so each number is looked for where mergekit looks for it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from della_bench.spec.mergekit_numbers import OF_SLICE
from della_bench.spec.mergekit_reference import Reference
from della_bench.spec.mergekit_table import Counterpart
from della_bench.spec.numbers import read_decimal
from della_bench.spec.option import Option
from della_bench.spec.registry import find_method

__all__ = ["Unsliced", "without_modules", "without_slices"]

log = logging.getLogger(__name__)

_FLAGS = ("normalize", "rescale", "int8_mask")  # one value for the whole merge; the last one has no effect
_SLICE_KEYS = ("sources", "base_model", "parameters")


@dataclass(frozen=True)
class Unsliced:
    """A configuration of models alone. slices: ours, empty where it has none; base: what only its config comes from."""

    data: dict[str, Any]
    slices: list[str] = field(default_factory=list)
    base: object = None


def without_slices(
    data: Mapping[str, Any], method: Counterpart, where: str, ignored: list[str], faults: list[str]
) -> Unsliced:
    """Return a configuration without its slices; `where` is what warnings begin with.

    What mergekit does not read goes to `ignored`, and what cannot be read or done to `faults`.
    """
    if data.get("slices") is None:
        return Unsliced(dict(data))
    if data.get("models"):
        faults.append("slices: given beside models; mergekit takes one of them")
    return _Slices(dict(data), method, where, ignored, faults).unsliced()


def without_modules(data: Mapping[str, Any], method: Counterpart, faults: list[str]) -> dict[str, Any]:
    """Return a configuration with what stands in its only module in its own place."""
    plain = {key: value for key, value in data.items() if key != "modules"}
    modules = data.get("modules")
    if modules is None:
        return plain
    if not isinstance(modules, Mapping) or not modules or not all(isinstance(m, Mapping) for m in modules.values()):
        faults.append(f"modules={modules!r}: not a mapping from a module's name to its slices or models")
        return plain
    for key in ("models", "slices"):
        if plain.get(key):
            faults.append(f"modules: given beside {key}; mergekit takes one of them")
    first, *others = modules.values()
    same = all(other == first for other in others) and not (others and first.get("slices"))
    if not same or (not others and "default" not in modules):
        faults.append(
            f"modules: {', '.join(map(str, modules))}: parts of a model are not merged apart from each other; a merge "
            "is of whole models, by one method and one set of slices"
        )
        return plain
    shared = {**_mapping(data.get("parameters"), "parameters", faults)}
    for key, value in _mapping(first.get("parameters"), "modules: parameters", faults).items():
        is_alone = _is_one_for_all(method, key) or shared.get(key) in (None, value)
        shared[key] = value if is_alone else [*_rules(value), *_rules(shared[key])]
    return {**plain, **{key: first[key] for key in ("models", "slices") if key in first}, "parameters": shared}


class _Slices:
    def __init__(
        self, data: dict[str, Any], method: Counterpart, where: str, ignored: list[str], faults: list[str]
    ) -> None:
        self.data, self.method, self.where, self.ignored, self.faults = data, method, where, ignored, faults
        self.shared = _mapping(data.get("parameters"), "parameters", faults)
        self.base: Reference | None = self._base_of(data, "base_model")
        self.order: list[Reference] = []  # of the models, as they come
        self.of_models: dict[Reference, dict[str, list[Any]]] = {}  # rules by model and parameter
        self.of_all: dict[str, list[Any]] = {}
        self.flags: dict[str, list[Any]] = {}

    def unsliced(self) -> Unsliced:
        listed = self.data["slices"]
        if not isinstance(listed, list) or not listed:
            self.faults.append(f"slices={listed!r}: not a list of slices")
            return Unsliced({**self.data, "slices": None})
        self._find_base(listed)
        ranges = [self._read(number, item, len(listed)) for number, item in enumerate(listed)]
        if None in ranges:
            return Unsliced({**self.data, "slices": None, "models": [{"model": model} for model in self.order]})
        texts = self._texts([one for one in ranges if one is not None])
        models = [
            {"model": model, "parameters": {key: _joined(rules) for key, rules in self.of_models[model].items()}}
            for model in self.order
        ]
        parameters = {**self.shared, **self._common_flags(len(listed))}
        for key, rules in self.of_all.items():
            parameters[key] = _joined([*rules, *_rules(self.shared.get(key))])
        data = {**self.data, "slices": None, "models": models, "parameters": parameters, "base_model": self.base}
        if self._is_role_of_base():
            return Unsliced(data, texts)
        return Unsliced({**data, "base_model": None}, texts, self.base)

    def _is_role_of_base(self) -> bool:
        """Whether the base is what deltas are taken from; else it is a model like the others, or none."""
        return self.method.base == "needed" or (self.method.base == "optional" and self.base is not None)

    def _find_base(self, listed: list[Any]) -> None:
        """Take the base of the slices, where all have the same and it is what deltas are taken from."""
        named = self.base
        own = [
            self._base_of(item, f"slices[{number}].base_model") or self.base
            for number, item in enumerate(listed)
            if isinstance(item, Mapping)
        ]
        if self.method.base == "an expert":
            return  # nothing is read of it but config and tokenizer, which are those of the whole configuration's
        if any(base != own[0] for base in own):
            self.faults.append(
                "slices: base_model differs from slice to slice; a merge has one base, which its experts are compared "
                "with"
            )
        if own:
            self.base = own[0]
        if named is not None and self.base != named:
            log.warning(
                "%sbase_model %s: mergekit takes config and tokenizer from it, and deltas from the slices' base_model "
                "%s; here all is the latter's",
                self.where,
                named,
                self.base,
            )

    def _base_of(self, data: Mapping[str, Any], where: str) -> Reference | None:
        """Return the base that a configuration or one of its slices names; None where it names none."""
        name = data.get("base_model")
        try:
            return Reference.read(name) if name else None
        except ValueError as error:
            self.faults.append(f"{where}={name!r}: {error}")
            return None

    def _read(self, number: int, item: Any, count: int) -> list[tuple[Reference, int, int]] | None:
        """Read one slice: return (model, start, stop) of its sources, None where it cannot be read."""
        sources = item.get("sources") if isinstance(item, Mapping) else None
        if not isinstance(sources, list) or not sources:
            self.faults.append(f"slices[{number}]: not a mapping with a list of sources")
            return None
        self.ignored += [f"slices[{number}].{key}" for key in item if key not in _SLICE_KEYS]
        own = _mapping(item.get("parameters"), f"slices[{number}].parameters", self.faults)
        found: list[tuple[Reference, int, int]] = []
        for index, source in enumerate(sources):
            place = f"slices[{number}].sources[{index}]"
            layers = _range(source.get("layer_range")) if isinstance(source, Mapping) else None
            if not isinstance(source, Mapping) or "model" not in source or layers is None:
                self.faults.append(f"{place}: not a mapping with a model's name and a layer_range of two whole numbers")
                return None
            try:
                model = Reference.read(source["model"])
            except ValueError as error:
                self.faults.append(f"{place}.model={source['model']!r}: {error}")
                return None
            if any(model == other for other, _, _ in found):
                self.faults.append(f"{place}: {model} is given twice in one slice, which mergekit refuses")
            self.ignored += [f"{place}.{key}" for key in source if key not in ("model", "layer_range", "parameters")]
            found.append((model, *layers))
            given = _mapping(source.get("parameters"), f"{place}.parameters", self.faults)
            self._put_model(model, number if count > 1 else None, given, own)
        self._put_all(number if count > 1 else None, own)
        return found

    def _put_model(
        self, model: Reference, number: int | None, given: Mapping[str, Any], of_slice: Mapping[str, Any]
    ) -> None:
        """Note the numbers of a model in a slice: the source's before the slice's."""
        if model not in self.of_models:
            self.order.append(model)
            self.of_models[model] = {}
        for key in dict.fromkeys([*given, *of_slice]):
            if key in given or key in self.method.of_models:
                rules = self.of_models[model].setdefault(key, [])
                rules += [*_rules(given.get(key), number), *_rules(of_slice.get(key), number)]

    def _put_all(self, number: int | None, of_slice: Mapping[str, Any]) -> None:
        """Note a slice's numbers of all models."""
        for key, value in of_slice.items():
            if key == "int8_mask":  # it has no effect
                continue
            if _is_one_for_all(self.method, key):
                self.flags.setdefault(key, []).append(value)
            elif key not in self.method.of_models:
                self.of_all.setdefault(key, []).extend(_rules(value, number))

    def _common_flags(self, count: int) -> dict[str, Any]:
        """Return the flags that slices have, where all have the same."""
        for key, values in self.flags.items():
            shared = self.shared.get(key)
            other = self._default(key) if shared is None else shared
            everywhere = [*values, *([other] if len(values) < count else [])]
            if any(value != values[0] for value in everywhere):
                self.faults.append(f"slices: {key} differs from slice to slice, and is one for a whole merge here")
        return {key: values[0] for key, values in self.flags.items()}

    def _default(self, key: str) -> object:
        """Return what mergekit takes for a switch that is left out."""
        defaults: dict[str, object] = {"normalize": self.method.normalize, "rescale": self.method.rescale}
        option = _option(self.method, key)
        return defaults.get(key, None if option is None else option.default)

    def _texts(self, ranges: list[list[tuple[Reference, int, int]]]) -> list[str]:
        """Return our slices; the base is source 0 where deltas are taken from it."""
        has_base = self._is_role_of_base()
        experts = [model for model in self.order if not (has_base and model == self.base)]
        texts = []
        for number, sources in enumerate(ranges):
            if has_base and self.base is not None and all(model != self.base for model, _, _ in sources):
                if len(ranges) > 1 or len({(start, stop) for _, start, stop in sources}) > 1:
                    self.faults.append(
                        f"slices[{number}]: base_model {self.base} is not among its sources, and "
                        f"{self.data.get('merge_method')} needs it there"
                    )
                else:
                    log.warning(
                        "%sbase_model %s is not among the sources of the only slice, which mergekit refuses: taken "
                        "as if it were, with their layers",
                        self.where,
                        self.base,
                    )
                    sources = [(self.base, *sources[0][1:]), *sources]
            numbers = [0 if has_base and model == self.base else 1 + experts.index(model) for model, _, _ in sources]
            texts.append("+".join(f"{k}:{a}-{b}" for k, (_, a, b) in zip(numbers, sources, strict=True)))
        if (few := len(ranges[0])) < len(ranges[-1]):
            log.warning(
                "%sthe first slice has %d source%s and the last one %d: mergekit takes what comes after the layers "
                "(norm, head) of so many of the last slice's only, and here it is merged of all of them",
                self.where,
                few,
                "s" * (few > 1),
                len(ranges[-1]),
            )
        return texts


def _is_one_for_all(method: Counterpart, key: str) -> bool:
    """Whether a parameter is a switch, or another option with one value for a whole merge."""
    option = _option(method, key)
    return key in _FLAGS or (option is not None and option.kind is not float)


def _option(method: Counterpart, key: str) -> Option | None:
    """Return our option that a parameter of mergekit's is; None where it is none of the method's own."""
    return find_method(method.name).option(method.options.get(key, ""))


def _range(value: Any) -> tuple[int, int] | None:
    """Return a range of layers, whose ends may be texts or floats as in mergekit; None where it is none."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    try:
        start, stop = map(read_decimal, value)
    except ValueError:
        return None
    return (int(start), int(stop)) if all(end == int(end) >= 0 for end in (start, stop)) else None


def _rules(setting: Any, number: int | None = None) -> list[Any]:
    """Return the rules of a setting, each for slice `number` alone where there is one."""
    if setting is None:
        return []
    items = [setting] if isinstance(setting, Mapping) else setting
    if not (isinstance(items, list) and items and all(isinstance(item, Mapping) for item in items)):
        items = [{"value": setting}]
    return [{**item, OF_SLICE: number} if number is not None else item for item in items]


def _joined(rules: list[Any]) -> Any:
    """Return rules as a setting; one that is for all tensors as its value."""
    return rules[0]["value"] if len(rules) == 1 and rules[0].keys() == {"value"} else rules


def _mapping(value: Any, where: str, faults: list[str]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        faults.append(f"{where}={value!r}: not a mapping")
        return {}
    return value
