"""Reading a space: a spec with ranges, from a YAML file, a mapping or a string; every fault is told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from della_bench.errors import SpecError
from della_bench.search.dimension import Dimension
from della_bench.search.space import METHOD, Space
from della_bench.search.template import dimensions_of, mapped_leaves, read_template
from della_bench.spec import KEYS, OTHER_NAMES, Method, Source
from della_bench.spec.files import is_file_name, read_yaml
from della_bench.spec.genome import genome_space
from della_bench.spec.keys import is_used
from della_bench.spec.numbers import number_text
from della_bench.spec.option import Option
from della_bench.spec.own_keys import own_key_names, read_option
from della_bench.spec.registry import find_method, registered
from della_bench.suggest import nearest

__all__ = ["SEARCH", "read_space", "space_mapping"]

SEARCH = "search"  # the key of a space file that says how to search
_FIXED = ("base", "dtype", "tokenizer", "name")  # what the engine is started with, or what is no choice
_NEEDED = {"base": "base_model", "experts": "models"}  # with their other names
_ONE_EACH = ("weights", "density", "epsilon")
_RATES = {"drop_rate": lambda number: 1 - number, "window_size": lambda number: number / 2}


def space_mapping(space: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the keys of a space in any of its forms, and whether they are texts of a string. Raises SpecError."""
    if isinstance(space, Mapping):
        return dict(space), False
    text = os.fspath(space).strip()
    if isinstance(space, os.PathLike) or is_file_name(text):
        keys = read_yaml(text)
        return (genome_space(keys, _layers(keys), f"{text}: ") if "genome" in keys else keys), False
    keys = {}
    faults = []
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if not equals and item.strip():
            faults.append(f"{item.strip()!r}: not key=value (a comma inside a value is written %2C)")
        elif key.strip() in keys:
            faults.append(f"{key.strip()}: given twice")
        elif equals:
            keys[key.strip()] = value.strip()
    if faults:
        raise SpecError(faults)
    return keys, True


def _layers(genome: Mapping[str, Any]) -> int | None:
    """Return how many layers the models of a mergekit-evolve file have; None where no group of layers is asked for."""
    inside = genome["genome"] if isinstance(genome["genome"], Mapping) else {}
    models = inside.get("models")
    if not inside.get("layer_granularity") or not isinstance(models, list) or not models:
        return None
    from della_bench.checkpoint import resolve
    from della_bench.jsonfiles import read_json

    folder = resolve(Source.parse(str(inside.get("base_model") or models[0])), weights=False)
    layers = read_json(folder / "config.json").get("num_hidden_layers")
    return layers if isinstance(layers, int) else None


def read_space(given: Mapping[str, Any], *, text: bool = False) -> Space:
    """Return the space of a mapping from a spec's keys to values or ranges; the key `search` is left out.

    text: the values are texts of a spec string. Raises SpecError with all faults: what a spec may not have, an empty or
    one-point space, a range upside down or outside of what its key allows, a key that no method of the space uses.
    """
    faults: list[str] = []
    templates: dict[str, Any] = {}
    for name, value in given.items():
        key = OTHER_NAMES[name].key if name in OTHER_NAMES else name
        if key == SEARCH:
            continue
        if key in templates:
            faults.append(f"{name}: another name of {key}, which is given too; give one of them")
            continue
        try:
            template = read_template(value, key, text=text)
            if name in _RATES:
                template = mapped_leaves(template, _RATES[name])
        except (ValueError, ArithmeticError, TypeError) as error:
            faults.append(f"{name}: {error}")
            continue
        if any(isinstance(each, Dimension) and each.choices is None for each in _names_in(key, template)):
            faults.append(f"{name}: has no range of numbers; {{choices: [...]}} lists what may be chosen")
        elif key in _FIXED and any(dimensions_of(template)):
            faults.append(f"{name}: cannot be searched; one engine runs all candidates")
        elif key not in KEYS and key not in own_key_names() and not _own(key, templates, given):
            known = [*KEYS, *OTHER_NAMES, *sorted(own_key_names()), SEARCH]
            faults.append(f"{name}: unknown key{nearest(str(name), known)}")
        else:
            templates[key] = template
    misread = bool(faults)  # what could not be read may have been a range
    experts = _expert_names(templates.get("experts"), faults)
    space = Space({key: _one_each(key, template, given, experts) for key, template in templates.items()})
    for key, other in _NEEDED.items():
        if given.get(key) is None and given.get(other) is None:
            faults.append(f"{key}: missing; it is {KEYS[key].meaning}")
    faults += [*_method_faults(space), *_unused(space), *_outside(space), *_unreadable(space)]
    faults += [] if misread else _points(space)
    if not faults:
        faults = _invalid(space)
    if faults:
        raise SpecError(list(dict.fromkeys(faults)))
    return space


def _names_in(key: str, template: Any) -> list[Any]:
    """Return the parts of a key's template that are names, of a method or of sources."""
    if key == METHOD or (key == "experts" and isinstance(template, Dimension)):
        return [template]
    return _sources(template) if key == "experts" else []


def _own(key: str, templates: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Return whether a key is that of a method which another package offers, and which is loaded only now."""
    methods = templates.get(METHOD, given.get(METHOD, given.get("method")))
    names = list(methods.choices) if isinstance(methods, Dimension) and methods.choices else [methods]
    for name in names:
        try:
            if isinstance(name, str) and find_method(name).option(key) is not None:
                return True
        except ValueError:  # told where the methods are checked
            continue
    return False


def _expert_names(template: Any, faults: list[str]) -> list[str]:
    """Return what the experts are called in the names of dimensions: by their sources' last part, or counted."""
    if template is None:
        return []
    if isinstance(template, Dimension):
        several = [_sources(choice) for choice in (template.choices or {}).values()]
    else:
        several = [_sources(template)]
    if len({len(sources) for sources in several}) > 1:
        faults.append("experts: every choice needs the same number of them")
    count = len(several[0]) if several else 0
    names = []
    for source in several[0] if len(several) == 1 else []:
        try:
            names.append(Path(Source.parse(str(source)).place).name if not isinstance(source, Dimension) else "")
        except ValueError:  # told by the spec
            names.append("")
    usable = len(set(names)) == count and all(name and "." not in name for name in names)
    return names if usable else [str(place + 1) for place in range(count)]


def _sources(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [each.get("source", each.get("model")) if isinstance(each, Mapping) else each for each in value]
    if isinstance(value, Mapping):
        return list(value)
    return str(value).split("+")


def _one_each(key: str, template: Any, given: Mapping[str, Any], experts: list[str]) -> Any:
    """Return the template of a key with a dimension an expert, where there is to be one; named after the expert."""
    names = [name for name, other in OTHER_NAMES.items() if other.key == key]
    value = next((given[name] for name in (key, *names) if name in given), None)
    shared = value.get("shared") if isinstance(value, Mapping) else None
    single = isinstance(template, Dimension)
    each = key in _ONE_EACH or _takes_each(key)
    if single and each and experts and not (shared if shared is not None else key != "weights"):
        template = [_renamed(template, f"{key}.{name}", key) for name in experts]
    elif isinstance(template, list) and key in _ONE_EACH and len(template) == len(experts):
        pairs = zip(template, enumerate(experts, start=1), strict=True)
        template = [_replaced(part, f"{key}.{place}", f"{key}.{name}") for part, (place, name) in pairs]
    return template


def _takes_each(key: str) -> bool:
    return any((option := method.option(key)) is not None and option.each for method in registered())


def _renamed(dimension: Dimension, name: str, key: str) -> Dimension:
    return replace(dimension, name=name, key=key)


def _replaced(template: Any, start: str, new: str) -> Any:
    """Return a template whose dimensions are named after another start."""
    if isinstance(template, Dimension):
        return _renamed(template, new + template.name.removeprefix(start), template.key)
    if isinstance(template, Mapping):
        return {key: _replaced(part, start, new) for key, part in template.items()}
    if isinstance(template, list):
        return [_replaced(part, start, new) for part in template]
    return template


def _method_faults(space: Space) -> list[str]:
    faults = []
    for name in space.methods:
        try:
            find_method(name)
        except ValueError as error:
            faults.append(f"merge_method={name!r}: {error}")
    return faults


def _unused(space: Space) -> list[str]:
    """Return a fault for each searched key that no method of the space uses."""
    rows = _rows(space)
    searched = dict.fromkeys(each.key for each in space.all_dimensions)
    methods = ", ".join(space.methods)
    return [
        f"{key}: searched, but no method of the space uses it ({methods})"
        for key in searched
        if rows and not any(row.option(key) is not None or is_used(key, row) for row in rows)
    ]


def _rows(space: Space) -> list[Method]:
    """Return the methods of the space that there are."""
    found = []
    for name in space.methods:
        with suppress(ValueError):  # told by `_method_faults`
            found.append(find_method(name))
    return found


def _outside(space: Space) -> list[str]:
    """Return a fault for each end of a range and each choice that its key does not allow."""
    faults = []
    rows = _rows(space)
    for each in space.all_dimensions:
        if each.key in (METHOD, "experts"):
            continue
        option = _option(rows, each.key)
        if option is None and each.key not in KEYS:  # some other method's own: told by `_unused`
            continue
        values = list(each.choices.values()) if each.choices is not None else [each.low, each.high]
        for value in dict.fromkeys(map(_hashable, values)):
            try:
                read_option(option, value) if option is not None else KEYS[each.key].read(value)
            except ValueError as error:
                text = number_text(value) if isinstance(value, float) else repr(value)
                faults.append(f"{each.name}={text}: {error}")
    return faults


def _option(rows: list[Method], key: str) -> Option | None:
    """Return what a key is as some method's own; None where it is none of theirs."""
    return next((found for row in rows if (found := row.option(key)) is not None), None)


def _unreadable(space: Space) -> list[str]:
    """Return a fault for each fixed value that its key does not allow, where a method of the space uses the key."""
    faults: list[str] = []
    rows = _rows(space)
    for key, value in space.keys.items():
        option = _option(rows, key)
        absent = value is None and key in KEYS and (key in _NEEDED or KEYS[key].none_is_absent)
        unused = option is None and not any(is_used(key, row) for row in rows)
        if key == METHOD or any(dimensions_of(value)) or absent or unused:
            continue
        try:
            read_option(option, value) if option is not None else KEYS[key].read(value)
        except SpecError as error:  # of a source that is a merge
            faults += error.faults
        except ValueError as error:
            faults.append(f"{key}={value!r}: {error}")
    return faults


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def _points(space: Space) -> list[str]:
    """Return a fault where there is nothing to choose."""
    if not space.all_dimensions:
        return [
            "nothing to search: no key has a range (density: {low: 0.2, high: 0.9}, or density=0.2..0.9) or choices"
        ]
    if all(each.points == 1 for each in space.all_dimensions):
        return ["nothing to search: every range is a single point"]
    return []


def _invalid(space: Space) -> list[str]:
    """Return what is wrong with the specs at the ends of the ranges: counts that do not match, missing keys, ..."""
    faults: dict[str, None] = {}
    for proposal in space.corners():
        try:
            space.spec(proposal)
        except SpecError as error:
            method = space.method_of(proposal)
            faults |= dict.fromkeys(f"{fault} (with merge_method={method})" for fault in error.faults)
    return list(faults)
