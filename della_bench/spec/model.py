"""MergeSpec: what one merge is, with nothing left open."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from della_bench.errors import SpecError
from della_bench.merge.methods import ALGORITHM_VERSION, METHODS, Elect, Method, Rescale
from della_bench.merge.thresholds import exact
from della_bench.spec.files import read_json, read_yaml
from della_bench.spec.keys import KEYS, OTHER_NAMES, number_text
from della_bench.spec.mergekit import is_mergekit, translate
from della_bench.spec.source import Source, encode
from della_bench.spec.suggest import nearest

__all__ = ["MergeSpec"]

log = logging.getLogger(__name__)

_NOT_GIVEN = object()


@dataclass(frozen=True)
class MergeSpec:
    """A merge, fully determined: the same spec and the same input files give the same bits.

    Made by `MergeSpec.parse`, which checks everything. Keys that the method does not use hold their neutral value, so
    that two specs are equal exactly when they mean the same (and have the same name). `density` holds one number an
    expert and is empty where the method drops nothing; `epsilon` is None where the method has none.
    """

    base: Source
    experts: tuple[Source, ...]
    merge_method: str
    weights: tuple[float, ...]
    density: tuple[float, ...]
    epsilon: float | None
    lambda_: float
    rescale: Rescale
    elect: Elect
    normalize: bool
    seed: int
    dtype: str | None
    tokenizer: Source | None
    chat_template: Source | None
    name: str | None
    unused: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(
        cls, spec: str | os.PathLike[str] | Mapping[str, Any] | MergeSpec | None = None, /, **keys: Any
    ) -> MergeSpec:
        """Read a spec from any of its forms.

        `spec` is `key=value,key=value...`, a JSON object as text, the path of a YAML file (ours or mergekit's), or a
        mapping; `keys` are further keys, whose values may be numbers, lists and dicts already. Keys given beside
        `config=FILE` win over the file's.

        Raises SpecError that lists every fault: unknown, doubled and missing keys, values out of range, counts that do
        not match. A key that the method does not use is taken with a warning.
        """
        if isinstance(spec, MergeSpec):
            if not keys:
                return spec
            spec = spec.as_keys()
            given = {_key_name(name) for name in keys}
            spec = {key: value for key, value in spec.items() if key not in given}
        faults: list[str] = []
        pairs = [*_pairs(spec, faults), *keys.items()]
        config = [value for name, value in pairs if name == "config" and value is not None]
        given_keys = _by_key([pair for pair in pairs if pair[0] != "config"], faults)
        if len(config) > 1:
            faults.append("config: given twice")
        elif config:
            given_keys = {**_by_key(list(_from_file(config[0]).items()), faults), **given_keys}
        values = _read(given_keys, faults)
        fields = _complete(values, given_keys, faults)
        if faults:
            raise SpecError(faults)
        made = cls(**fields)
        if made.unused:
            log.warning("merge_method=%s does not use %s: ignored", made.merge_method, ", ".join(made.unused))
        return made

    @property
    def method(self) -> Method:
        """The row of the methods' table."""
        return METHODS[self.merge_method]

    @property
    def display_name(self) -> str:
        """What tables call the merge: its name, or the method and its numbers."""
        if self.name is not None:
            return self.name
        shown = ("density", "epsilon", "lambda", "weights")
        numbers = [f"{key}{text}" for key, text in self._texts().items() if key in shown]
        return "-".join([self.merge_method, *numbers])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over every effective value but the name, and over the version of the merging algorithm."""
        effective = {key: value for key, value in self.as_keys(effective=True).items() if key != "name"}
        text = json.dumps({"algorithm": ALGORITHM_VERSION, **effective}, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def as_keys(self, *, effective: bool = False) -> dict[str, Any]:
        """Return plain values by key, ready for `parse`, YAML or JSON.

        Only keys that the method uses are there; with `effective`, those left at their default too. Sources and the
        name are percent-encoded as in the string form.
        """
        row = self.method
        defaults: dict[str, Any] = {} if effective else self._defaults()
        values = {
            "base": str(self.base),
            "experts": [str(source) for source in self.experts],
            "merge_method": self.merge_method,
            "weights": list(self.weights),
            "density": list(self.density),
            "epsilon": self.epsilon,
            "lambda": self.lambda_,
            "rescale": self.rescale,
            "elect": self.elect,
            "normalize": self.normalize,
            "seed": self.seed,
            "dtype": self.dtype,
            "tokenizer": None if self.tokenizer is None else str(self.tokenizer),
            "chat_template": None if self.chat_template is None else str(self.chat_template),
            "name": None if self.name is None else encode(self.name),
        }
        return {
            key: value
            for key, value in values.items()
            if KEYS[key].used(row) and value is not None and defaults.get(key, _NOT_GIVEN) != value
        }

    def __str__(self) -> str:
        """Return the canonical string: what one pastes after --model_args."""
        return ",".join(f"{key}={text}" for key, text in self._texts().items())

    def _defaults(self) -> dict[str, Any]:
        row = self.method
        return {
            "merge_method": "della",
            "weights": [1.0] * len(self.experts),
            "lambda": 1.0,
            "rescale": row.rescale,
            "elect": row.elect,
            "normalize": row.normalize,
            "seed": 42,
        }

    def _texts(self) -> dict[str, str]:
        return {key: _text(key, value) for key, value in self.as_keys().items()}


def _text(key: str, value: Any) -> str:
    if key == "experts":
        return "+".join(value)
    if isinstance(value, list):
        return number_text(value[0]) if len(set(value)) == 1 else "+".join(map(number_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number_text(value)
    return str(value)


def _pairs(spec: str | os.PathLike[str] | Mapping[str, Any] | None, faults: list[str]) -> list[tuple[str, Any]]:
    """Return the (key, value) pairs of any form of a spec, doubled ones included."""
    if spec is None:
        return []
    if isinstance(spec, Mapping):
        return list(spec.items())
    if isinstance(spec, os.PathLike):
        return [("config", os.fspath(spec))]
    text = spec.strip()
    if text.startswith("{"):
        return list(read_json(text).items())
    if "=" not in text and Path(text).suffix in (".yaml", ".yml"):
        return [("config", text)]
    pairs = []
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if equals:
            pairs.append((key.strip(), value.strip()))
        elif item.strip():
            faults.append(f"{item.strip()!r}: not key=value (a comma inside a value is written %2C)")
    return pairs


def _from_file(path: Any) -> dict[str, Any]:
    data = read_yaml(str(path))
    if "config" in data:
        raise SpecError(f"config={path}: names another config; put all keys into one file")
    return translate(data, f"config={path}") if is_mergekit(data) else data


def _key_name(name: str) -> str:
    return OTHER_NAMES[name].key if name in OTHER_NAMES else name


def _by_key(pairs: Sequence[tuple[str, Any]], faults: list[str]) -> dict[str, tuple[str, Any]]:
    """Return {key: (name it was given by, value)}; unknown, doubled and twice-named keys become faults."""
    found: dict[str, tuple[str, Any]] = {}
    for name, value in pairs:
        key = _key_name(name)
        if value is None and key in KEYS and KEYS[key].none_is_absent:
            continue
        if key not in KEYS:
            faults.append(f"{name}={value!r}: unknown key{nearest(str(name), [*KEYS, *OTHER_NAMES, 'config'])}")
        elif key not in found:
            found[key] = (name, value)
        elif found[key][0] == name:
            faults.append(f"{name}: given twice")
        else:
            faults.append(f"{found[key][0]} and {name}: two names of one key; give one of them")
    return found


def _read(given: Mapping[str, tuple[str, Any]], faults: list[str]) -> dict[str, Any]:
    """Read every given value by its key's reader."""
    values: dict[str, Any] = {}
    for key, (name, value) in given.items():
        try:
            values[key] = KEYS[key].read(OTHER_NAMES[name].convert(value) if name in OTHER_NAMES else value)
        except ValueError as error:
            faults.append(f"{name}={value!r}: {error}")
            values[key] = None  # given, but of no use to the checks that follow
    return values


def _complete(values: dict[str, Any], given: Mapping[str, tuple[str, Any]], faults: list[str]) -> dict[str, Any]:
    """Check the values against each other and the method, and fill in what was not given."""
    missing = [key for key in ("base", "experts") if key not in given]
    faults += [f"{key}: missing; it is {KEYS[key].meaning}" for key in missing]
    merge_method = values.get("merge_method", "della")
    if merge_method is None:
        return {}
    row = METHODS[merge_method]
    experts: tuple[tuple[Source, float | None], ...] = values.get("experts") or ()
    weights = _weights(values, experts, faults)
    unused = tuple(given[key][0] for key in given if not KEYS[key].used(row))
    if not KEYS["weights"].used(row):
        if any(weight is not None for _, weight in experts):
            unused += ("weights",)
        weights = (1.0,) * len(experts)
    if row.kind in ("slerp", "passthrough") and len(experts) > 1:
        faults.append(f"experts: {merge_method} takes exactly one, got {len(experts)}")
    if row.kind == "slerp" and not all(0 <= w <= 1 for w in weights):
        faults.append(f"weights={'+'.join(map(number_text, weights))}: slerp's weight is its t, in [0, 1]")
    density, epsilon = _density(row, values, given, len(experts), faults)

    def used(key: str, default: Any) -> Any:
        return values.get(key, default) if KEYS[key].used(row) else default

    return {
        "base": values.get("base"),
        "experts": tuple(source for source, _ in experts),
        "merge_method": merge_method,
        "weights": weights,
        "density": density,
        "epsilon": epsilon,
        "lambda_": used("lambda", 1.0),
        "rescale": cast(Rescale, used("rescale", row.rescale)),
        "elect": cast(Elect, used("elect", row.elect)),
        "normalize": used("normalize", row.normalize),
        "seed": used("seed", 42),
        **{key: values.get(key) for key in ("dtype", "tokenizer", "chat_template", "name")},
        "unused": unused,
    }


def _weights(
    values: Mapping[str, Any], experts: Sequence[tuple[Source, float | None]], faults: list[str]
) -> tuple[float, ...]:
    beside = [weight for _, weight in experts]
    if values.get("weights") is None:
        return tuple(1.0 if weight is None else weight for weight in beside)
    if any(weight is not None for weight in beside):
        faults.append("weights: given beside experts=source:weight; give one of them")
    return _one_each("weights", values["weights"], len(experts), faults)


def _density(
    row: Method,
    values: Mapping[str, Any],
    given: Mapping[str, tuple[str, Any]],
    count: int,
    faults: list[str],
) -> tuple[tuple[float, ...], float | None]:
    """Return the densities and the epsilon that the method uses; each must be there where it is needed."""
    if not row.drops:
        return (), None
    if "density" not in values:
        allowed = "density in (0, 1] or drop_rate in [0, 1)"
        faults.append(f"density: missing, and {row.name} drops parameters; give {allowed}")
    density = values.get("density")
    if density is not None:
        density = _one_each(given["density"][0], density, count, faults)
    if not row.magprune:
        return density or (), None
    if "epsilon" not in values:
        allowed = "epsilon in [0, 0.5) or window_size (2 * epsilon)"
        faults.append(f"epsilon: missing, and {row.name} needs it; give {allowed}")
    epsilon = values.get("epsilon")
    if density and epsilon is not None:
        for d in sorted(set(density)):
            # An expert of density 1 is not dropped from, so that no probability is off its range.
            if d < 1 and not (exact(d) - exact(epsilon) > 0 and exact(d) + exact(epsilon) <= 1):
                room = exact(d), 1 - exact(d)
                limit = f"{'below' if room[0] <= room[1] else 'at most'} {number_text(float(min(room)))}"
                faults.append(
                    f"{given['epsilon'][0]}={given['epsilon'][1]!r}: too wide for a density of {number_text(d)}; "
                    "density - epsilon must be above 0 and density + epsilon at most 1, "
                    f"so epsilon (half of window_size) {limit}"
                )
    return density or (), epsilon


def _one_each(name: str, numbers: tuple[float, ...], count: int, faults: list[str]) -> tuple[float, ...]:
    if len(numbers) == 1:
        return numbers * count
    if count and len(numbers) != count:
        faults.append(f"{name}: {len(numbers)} numbers for {count} experts; give one, or one for each expert")
    return numbers
