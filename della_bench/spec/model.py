"""MergeSpec: what one merge is, with nothing left open."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from della_bench.spec.keys import KEYS, is_used, number_text
from della_bench.spec.method import BUILT_IN, Elect, Method, Rescale
from della_bench.spec.methods import ALGORITHM_VERSION
from della_bench.spec.parsing import key_name, read_fields
from della_bench.spec.registry import find_method
from della_bench.spec.source import Source, encode

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
        cls, spec: str | os.PathLike[str] | Mapping[str, object] | MergeSpec | None = None, /, **keys: Any
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
            given = {key_name(name) for name in keys}
            spec = {key: value for key, value in spec.items() if key not in given}
        fields = read_fields(spec, keys)
        parsed = cls(**fields)
        if parsed.unused:
            log.warning("merge_method=%s does not use %s: ignored", parsed.merge_method, ", ".join(parsed.unused))
        for source, count in Counter(parsed.experts).items():
            if count > 1:
                log.warning("experts: %s is given %d times, and merged as %d experts", source, count, count)
        return parsed

    @property
    def method(self) -> Method:
        """What the method does: a row of the methods' table, or another package's."""
        return find_method(self.merge_method)

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
        """SHA-256 (hex) over every effective value but the name, and over the version of the merging algorithm.

        The algorithm of another package's method is told by the package's name and the method's version, too.
        """
        effective = {key: value for key, value in self.as_keys(effective=True).items() if key != "name"}
        algorithm: dict[str, Any] = {"algorithm": ALGORITHM_VERSION}
        if self.method.package != BUILT_IN:
            algorithm["method"] = [self.method.package, self.method.version]
        text = json.dumps({**algorithm, **effective}, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def file_name(self) -> str:
        """The name, as far as every file system takes it, and the digest's first digits: different specs differ."""
        plain = re.sub(r"[^\w.+-]+", "_", self.display_name, flags=re.ASCII).strip("._")[:80]
        return f"{plain or 'run'}-{self.digest[:8]}"

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
            if is_used(key, row) and value is not None and defaults.get(key, _NOT_GIVEN) != value
        }

    def __str__(self) -> str:
        """Return the canonical string: what one pastes after --model_args."""
        return ",".join(f"{key}={text}" for key, text in self._texts().items())

    def _defaults(self) -> dict[str, Any]:
        row = self.method
        return {
            **{key: what.default for key, what in KEYS.items() if what.default is not None},
            "weights": [KEYS["weights"].default] * len(self.experts),
            "rescale": row.rescale,
            "elect": row.elect,
            "normalize": row.normalize,
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
