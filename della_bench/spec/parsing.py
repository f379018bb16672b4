"""From any form of a spec to the checked fields of a MergeSpec; every fault on the way is collected, then raised."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from della_bench.errors import SpecError
from della_bench.spec.documents import is_foreign, our_keys
from della_bench.spec.expert_numbers import densities_and_epsilons, weights_of, without_lone_slice
from della_bench.spec.files import is_file_name, read_json, read_yaml_documents
from della_bench.spec.keys import KEYS, OTHER_NAMES, is_used, read_rescale_flag
from della_bench.spec.method import Elect, Method, Rescale
from della_bench.spec.numbers import number_text
from della_bench.spec.own_keys import fill_in, method_of, own_key_names, read_option
from della_bench.spec.registry import find_method
from della_bench.spec.slices import Slices, check_slices, spelled_out
from della_bench.spec.source import Source
from della_bench.spec.templates import settled
from della_bench.spec.varying import Value, anchors, text
from della_bench.spec.vocabulary import expanded, source_faults
from della_bench.suggest import nearest

__all__ = ["key_name", "read_fields", "uses_base"]


def read_fields(
    spec: str | os.PathLike[str] | Mapping[str, object] | None,
    keys: Mapping[str, object],
    canonical: Callable[[str], str],
) -> dict[str, Any]:
    """Return the fields of a MergeSpec for a spec in any form and further keys beside it.

    canonical: the canonical string of a spec; the sources that are merges of their own are written so. Raises SpecError
    that lists every fault.
    """
    faults: list[str] = []
    pairs = _pairs(spec, faults)
    in_file: list[tuple[str, object]] = []
    if isinstance(pairs, Mapping):
        if is_foreign(pairs):
            in_file, pairs = list(our_keys([pairs], "").items()), []
        else:
            pairs = list(pairs.items())
    pairs += keys.items()
    pairs = [(name, _as_list(value)) for name, value in pairs]
    config = [value for name, value in pairs if name == "config" and value is not None]
    beside = expanded([pair for pair in pairs if pair[0] != "config"], faults)
    if len(config) > 1:
        faults.append("config: given twice")
    elif config:
        in_file += _from_file(config[0]).items()
    in_file = expanded(in_file, faults)
    method = method_of([*beside, *in_file])
    given_keys = {**_by_key(in_file, method, faults), **_by_key(beside, method, faults)}
    values = _read(given_keys, method, faults)
    fields = _complete(values, given_keys, faults)
    fields |= _staged(fields, canonical, faults)
    if faults:
        raise SpecError(faults)
    return fields


def _pairs(
    spec: str | os.PathLike[str] | Mapping[str, object] | None, faults: list[str]
) -> list[tuple[str, object]] | Mapping[str, object]:
    """Return the (key, value) pairs of a string, doubled ones included, or the mapping that a spec is."""
    if spec is None:
        return []
    if isinstance(spec, Mapping):
        return spec
    if isinstance(spec, os.PathLike):
        return [("config", os.fspath(spec))]
    if not isinstance(spec, str):
        raise SpecError(f"a spec is a text, a mapping, a path or a MergeSpec, not {type(spec).__name__}")
    text = spec.strip()
    if text.startswith("{"):
        return read_json(text)
    if is_file_name(text):
        return [("config", text)]
    pairs: list[tuple[str, object]] = []
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if equals:
            pairs.append((key.strip(), value.strip()))
        elif item.strip():
            faults.append(_not_a_pair(item.strip(), pairs[-1][0] if pairs else ""))
    return pairs


def _not_a_pair(item: str, before: str) -> str:
    """Return what is wrong with a part of a string that is no key=value; before: the key in front of it."""
    if before in ("experts", "models", "weights", "density", "epsilon"):
        return f"{item!r}: not key=value; {before} has a + between one and the next"
    if not before and os.path.exists(item):  # a name that is too long is none, and no error
        return f"{item!r}: not key=value; a file with a spec in it ends in .yaml, .yml or .json"
    return f"{item!r}: not key=value (a comma inside a value is written %2C)"


def _as_list(value: Any) -> Any:
    """Return the numbers of an array of numpy's in a list, and any other value as it is."""
    return list(value) if getattr(value, "ndim", 0) else value


def _from_file(path: object) -> dict[str, Any]:
    documents = read_yaml_documents(str(path))
    if any("config" in data for data in documents):
        raise SpecError(f"config={path}: names another config; put all keys into one file")
    return our_keys(documents, f"config={path}: ")


def _staged(fields: Mapping[str, Any], canonical: Callable[[str], str], faults: list[str]) -> dict[str, Any]:
    """Return those of the fields that hold sources, each source that is a merge with its spec in canonical form."""

    def staged(key: str, source: Source) -> Source:
        if source.scheme != "merge":
            return source
        try:
            return replace(source, place=canonical(source.place))
        except SpecError as error:
            faults.extend(f"{key}: in a merge of its own: {fault}" for fault in error.faults)
            return source

    keys = ("base", "tokenizer", "chat_template")
    one = {key: staged(key, fields[key]) for key in keys if isinstance(fields.get(key), Source)}
    rows = fields.get("tokens", ())
    tokens = [row if row.source is None else replace(row, source=staged("tokens", row.source)) for row in rows]
    return {
        **one,
        "tokens": tuple(tokens),
        "experts": tuple(staged("experts", source) for source in fields.get("experts", ())),
    }


def key_name(name: str) -> str:
    """Return the key that a name stands for; a name that is none is returned as it is."""
    return OTHER_NAMES[name].key if name in OTHER_NAMES else name


def _by_key(
    pairs: Sequence[tuple[str, object]], method: Method | None, faults: list[str]
) -> dict[str, tuple[str, object]]:
    """Return {key: (name it was given by, value)}; unknown, doubled and twice-named keys become faults.

    A name that the method has of its own is that, even where it is another name of a key that all have.
    """
    by_key: dict[str, tuple[str, object]] = {}
    own = [option.name for option in method.options] if method else []
    others = own_key_names()
    for name, value in pairs:
        key = name if name in own else key_name(name)
        if value is None and key in KEYS and KEYS[key].none_is_absent:
            continue
        if key not in KEYS and key not in own and key not in others:
            known = [*own, *KEYS, *OTHER_NAMES, "config"]
            faults.append(f"{name}={value!r}: unknown key{nearest(str(name), known)}")
        elif key not in by_key:
            by_key[key] = (name, value)
        elif by_key[key][0] == name:
            faults.append(f"{name}: given twice")
        else:
            faults.append(f"{by_key[key][0]} and {name}: two names of one key; give one of them")
    return by_key


def _read(given: Mapping[str, tuple[str, object]], method: Method | None, faults: list[str]) -> dict[str, Any]:
    """Read every given value by its key's reader; another method's key stays unread."""
    values: dict[str, Any] = {}
    for key, (name, value) in given.items():
        option = method.option(key) if method else None
        try:
            if option is not None:
                values[key] = read_option(option, value)
            elif key in KEYS:
                values[key] = KEYS[key].read(OTHER_NAMES[name].convert(value) if name in OTHER_NAMES else value)
        except ValueError as error:
            faults.append(f"{name}={value!r}: {error}")
            values[key] = None  # given, but of no use to the checks that follow
    return values


def _complete(values: dict[str, Any], given: Mapping[str, tuple[str, object]], faults: list[str]) -> dict[str, Any]:
    """Check the values against each other and the method, and fill in what was not given."""
    missing = [key for key in ("base", "experts") if key not in given]
    faults += [f"{key}: missing; it is {KEYS[key].meaning}" for key in missing]
    merge_method = values.get("merge_method", KEYS["merge_method"].default)
    if merge_method is None:
        return {}
    row = find_method(merge_method)
    experts: tuple[tuple[Source, Value | None], ...] = values.get("experts") or ()
    weights = weights_of(values, experts, faults)
    unused = tuple(given[key][0] for key in given if row.option(key) is None and not is_used(key, row))
    if not is_used("weights", row):
        if any(weight is not None for _, weight in experts):
            unused += ("weights",)
        weights = (KEYS["weights"].default,) * len(experts)
    if "slices" not in given and row.experts and experts and len(experts) != row.experts:
        wanted = "one" if row.experts == 1 else row.experts
        faults.append(f"experts: {merge_method} takes exactly {wanted}, got {len(experts)}")
    if "slices" not in given and experts and len(experts) < row.least_experts:
        faults.append(f"experts: {merge_method} takes at least {row.least_experts}, got {len(experts)}")
    low, high = row.weights_within or (-math.inf, math.inf)
    if not all(low <= number <= high for weight in weights for number in anchors(weight)):
        within = f"[{number_text(low)}, {number_text(high)}]"
        faults.append(f"weights={'+'.join(map(text, weights))}: a weight of {merge_method} is in {within}")
    density, epsilon = densities_and_epsilons(row, values, given, len(experts), faults)
    if row.drop in ("magnitude", "magnitude_row") and "rescale" in given:
        # In the authors' code the flag has no effect there, and is on by default; inverse_keep by name still does.
        name, value = given["rescale"]
        if read_rescale_flag(value) is not None:
            values = {**values, "rescale": row.rescale}
            unused += (f"{name}={value}",)

    base = values.get("base")
    if values.get("tokenizer") is None and "tokenizer" not in given:
        needless = [key for key in ("tokens", "pad_to_multiple_of") if key in given]
        faults += [f"{key}: needs tokenizer=base, union or a model: its rows are aligned" for key in needless]
    tokens = values.get("tokens") or ()
    if base is not None and experts:
        models = [base, *(source for source, _ in experts)]
        faults += source_faults(tokens, models)
        if values.get("chat_template") is not None:
            values = {**values, "chat_template": settled(values["chat_template"], models, faults)}

    def used(key: str, default: Any) -> Any:
        return values.get(key, default) if is_used(key, row) else default

    options = fill_in(row, values, given, len(experts), faults)
    slices = _slices(values.get("slices") or (), row, len(experts), dict(options), faults)
    lambda_ = used("lambda", KEYS["lambda"].default)
    numbers = {"weights": weights, "density": density, "epsilon": epsilon, "lambda": lambda_, **dict(options)}
    if values.get("slices") or "slices" not in given:
        numbers = without_lone_slice(numbers, len(slices), faults)
    return {
        "base": values.get("base"),
        "experts": tuple(source for source, _ in experts),
        "slices": slices,
        "merge_method": merge_method,
        "weights": numbers["weights"],
        "density": numbers["density"],
        "epsilon": numbers["epsilon"],
        "lambda_": numbers["lambda"],
        "rescale": cast(Rescale, used("rescale", row.rescale)),
        "elect": cast(Elect, used("elect", row.elect)),
        "normalize": used("normalize", row.normalize),
        "seed": used("seed", KEYS["seed"].default),
        "options": tuple((key, numbers[key]) for key, _ in options),
        "tokens": tokens,
        **{key: values.get(key) for key in ("dtype", "tokenizer", "pad_to_multiple_of", "chat_template", "name")},
        "unused": unused,
    }


def uses_base(row: Method, options: Mapping[str, object]) -> bool:
    """Whether a merge of a method and its own keys takes a base; some take whole weights where `deltas` is false."""
    return row.uses_base and options.get("deltas") is not False


def _slices(slices: Slices, row: Method, count: int, options: Mapping[str, object], faults: list[str]) -> Slices:
    if not slices or not count:
        return ()
    with_base = uses_base(row, options)
    slices = spelled_out(slices, count, with_base=with_base)
    faults += check_slices(slices, row, count, with_base=with_base)
    return slices
