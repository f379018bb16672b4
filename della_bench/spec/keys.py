"""The keys of a spec: what each means, its other names, how its value is read, and which methods use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from della_bench.spec.method import Method
from della_bench.spec.numbers import number_text, plain, read_decimal
from della_bench.spec.registry import find_method
from della_bench.spec.slices import read_slices
from della_bench.spec.source import Source, decode
from della_bench.spec.stages import read_source
from della_bench.spec.templates import NAMED, read_template
from della_bench.spec.varying import Value, anchors, mapped, read_value, read_values
from della_bench.spec.vocabulary import read_multiple, read_tokenizer, read_tokens
from della_bench.suggest import nearest

__all__ = ["KEYS", "OTHER_NAMES", "Key", "OtherName", "is_used", "read_bool", "read_rescale_flag"]

_DTYPES = {
    "float32": "float32", "fp32": "float32", "float": "float32",
    "float16": "float16", "fp16": "float16", "half": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16",
}  # fmt: skip
_RESCALES = ("inverse_keep", "l1", "none")
_ELECTS = ("sum", "count", "none")


def read_number(value: object) -> float:
    """Read any finite number."""
    return plain(read_decimal(value))


def _read_density(value: object) -> tuple[Value, ...]:
    values = read_values(value)
    if not all(0 < number <= 1 for one in values for number in anchors(one)):
        raise ValueError("a density is in (0, 1] (a drop rate in [0, 1))")
    return values


def _read_epsilon(value: object) -> tuple[Value, ...]:
    values = read_values(value)
    if not all(0 <= number < 0.5 for one in values for number in anchors(one)):
        raise ValueError("an epsilon is in [0, 0.5) (a window size in [0, 1))")
    return values


def read_bool(value: object) -> bool:
    """Read true, false, 1 or 0."""
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise ValueError("true or false")


def _read_choice(value: object, choices: Sequence[str]) -> str:
    text = "none" if value is None else str(value).strip().lower()
    if text not in choices:
        raise ValueError(f"not a choice{nearest(text, choices)}")
    return text


def read_rescale_flag(value: object) -> bool | None:
    """Return the DELLA authors' `rescale` flag, 1 or 0, or None where a value is something else."""
    if isinstance(value, (bool, int, float, str)):
        return {"1": True, "true": True, "0": False, "false": False, "1.0": True, "0.0": False}.get(str(value).lower())
    return None


def _read_rescale(value: object) -> str:
    flag = read_rescale_flag(value)
    if flag is not None:
        return "inverse_keep" if flag else "none"
    return _read_choice(value, _RESCALES)


def _read_elect(value: object) -> str:
    return _read_choice(value, _ELECTS)


def _read_method(value: object) -> str:
    return find_method(str(value).strip()).name


def _read_seed(value: object) -> int:
    number = read_decimal(value)
    if number != number.to_integral_value() or not 0 <= number < 2**64:
        raise ValueError("a seed is a whole number in [0, 2^64)")
    return int(number)


def _read_dtype(value: object) -> str | None:
    text = str(value).strip().lower().removeprefix("torch.")
    if text == "auto":
        return None
    if text not in _DTYPES:
        raise ValueError(f"not a dtype to merge into{nearest(text, ('float32', 'float16', 'bfloat16', 'auto'))}")
    return _DTYPES[text]


def _read_expert(value: object) -> tuple[Source, Value | None]:
    """Read `source[:weight]`, a mapping with `source` (or `model`) and `weight`, or the spec of another merge."""
    if isinstance(value, Mapping) and not value.keys() & {"base", "base_model"}:
        unknown = set(value) - {"source", "model", "weight"}
        sources = [value[k] for k in ("source", "model") if k in value]
        if unknown or len(sources) != 1:
            raise ValueError("an expert in a list is 'source[:weight]' or {source: ..., weight: ...}")
        weight = None if value.get("weight") is None else read_value(value["weight"])
        return read_source(sources[0]), weight
    if isinstance(value, str):
        head, colon, tail = value.strip().rpartition(":")
        if colon and _is_number(tail) and not head.endswith(":"):
            return Source.parse(head), read_number(tail)
    return read_source(value), None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_experts(value: object) -> tuple[tuple[Source, Value | None], ...]:
    """Read `a[:w]+b[:w]`, a list of such items, or a mapping from source to weight."""
    if isinstance(value, Mapping):
        value = [{"source": source, "weight": weight} for source, weight in value.items()]
    elif isinstance(value, (Source, os.PathLike)):
        value = [value]
    elif not isinstance(value, Sequence) or isinstance(value, str):
        value = str(value).split("+") if value is not None else []
    if not value:
        raise ValueError("at least one expert is needed")
    return tuple(_read_expert(item) for item in value)


def _read_name(value: object) -> str:
    text = decode(str(value).strip())
    if not text:
        raise ValueError("a name cannot be empty")
    return text


@dataclass(frozen=True)
class Key:
    """One key of a spec.

    `read` turns a given value into the stored one or raises ValueError with what is allowed. `default` is what counts
    where none is given, if that is the same for all methods and models; for a key of one value an expert, each has it.
    `of_methods` says that only some methods use the key. `none_is_absent` says that a None (of Python, JSON, YAML)
    counts as not given.
    """

    text: str
    read: Callable[[Any], Any]
    default: Any = None
    of_methods: bool = False
    none_is_absent: bool = False

    @property
    def meaning(self) -> str:
        """What the key means, with its default."""
        if self.default is None:
            return self.text
        default = number_text(self.default) if isinstance(self.default, float) else self.default
        return f"{self.text}, default {default}"


@dataclass(frozen=True)
class OtherName:
    """Another name of a key, with how its value becomes the key's."""

    key: str
    meaning: str
    convert: Callable[[Any], Any] = lambda value: value


def _complement(value: object) -> list[Value]:
    return [mapped(one, lambda rate: 1 - rate) for one in _from_0_below_1(value, "a drop rate")]


def _half(value: object) -> list[Value]:
    return [mapped(one, lambda size: size / 2) for one in _from_0_below_1(value, "a window size")]


def _from_0_below_1(value: object, what: str) -> tuple[Value, ...]:
    values = read_values(value)
    if not all(0 <= number < 1 for one in values for number in anchors(one)):
        raise ValueError(f"{what} is in [0, 1)")
    return values


KEYS: dict[str, Key] = {
    "base": Key("the model the experts were fine-tuned from: folder, hub id org/name[@revision], or zoo:base; "
                "model::adapter adds a LoRA adapter, merge:SPEC is a merge of its own", read_source),
    "experts": Key("source[:weight]+source[:weight]...; a list in YAML and JSON", _read_experts),
    "slices": Key("layers of which sources the merge is stacked of: source:start-stop, with + between the sources of a "
                  "slice and / between slices; default all layers of all", read_slices, none_is_absent=True),
    "merge_method": Key("a row of the methods' table", _read_method, "della"),
    "weights": Key("weight of each expert's delta before the election; one for all or one each",
                   read_values, 1.0, of_methods=True, none_is_absent=True),
    "density": Key("share of delta parameters kept, in (0, 1]; one for all or one each", _read_density,
                   of_methods=True, none_is_absent=True),
    "epsilon": Key("half-width of the range of keep probabilities around the density; one for all or one each",
                   _read_epsilon, of_methods=True, none_is_absent=True),
    "lambda": Key("scale of the merged delta", read_value, 1.0, of_methods=True),
    "rescale": Key("how kept values make up for dropped ones: inverse_keep (1 / keep probability), "
                   "l1 (match the L1 norm), none", _read_rescale, of_methods=True),
    "elect": Key("sign election: by the sum of the deltas, by count, or none", _read_elect, of_methods=True),
    "normalize": Key("divide by the sum of the weights that agree", read_bool, of_methods=True),
    "seed": Key("seed of the random draws", _read_seed, 42, of_methods=True),
    "dtype": Key("dtype of the merged weights, default the base's", _read_dtype, none_is_absent=True),
    "tokenizer": Key("whose tokens the merge has, rows aligned by the token: base, union, or a model; left out, the "
                     "base's tokenizer with the base's rows", read_tokenizer, none_is_absent=True),
    "tokens": Key("where single tokens have their rows from: TOKEN:SOURCE[:OTHER]+..., with zero for a source, and "
                  "force: before it; a mapping in YAML and JSON", read_tokens, none_is_absent=True),
    "pad_to_multiple_of": Key("rows are added until the vocabulary is a multiple of it", read_multiple,
                              none_is_absent=True),
    "chat_template": Key(f"auto (the one that most models have), a name ({', '.join(NAMED)}), text:TEMPLATE, or a "
                         "source; left out, the tokenizer's own", read_template, none_is_absent=True),
    "name": Key("what tables call the merge, default made from the method and its numbers", _read_name,
                none_is_absent=True),
}  # fmt: skip


def is_used(key: str, method: Method) -> bool:
    """Whether a method uses a key; one that is not every spec's is some other method's own."""
    return key in KEYS and (not KEYS[key].of_methods or method.uses(key))


OTHER_NAMES: dict[str, OtherName] = {
    "base_model": OtherName("base", "base"),
    "models": OtherName("experts", "experts"),
    "method": OtherName("merge_method", "merge_method"),
    "drop_rate": OtherName("density", "1 - density", _complement),
    "window_size": OtherName("epsilon", "2 * epsilon (what the DELLA paper calls epsilon)", _half),
    "lambda_factor": OtherName("lambda", "lambda"),
    "lambda_": OtherName("lambda", "lambda"),
}
