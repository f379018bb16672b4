"""MergeSpec: what one merge is, with nothing left open."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.expert_numbers import too_wide
from della_bench.spec.keys import KEYS, is_used
from della_bench.spec.method import Elect, Method, Rescale
from della_bench.spec.methods import ALGORITHM_VERSION
from della_bench.spec.numbers import number_text
from della_bench.spec.option import OptionValue
from della_bench.spec.own_keys import OwnValue, default
from della_bench.spec.parsing import key_name, read_fields, uses_base
from della_bench.spec.plain import key_text, one_for_all, plain, plain_option
from della_bench.spec.recipe import SOURCE_KEYS, algorithms, recipe
from della_bench.spec.registry import find_method
from della_bench.spec.slices import Place, Slices, slice_text
from della_bench.spec.source import Source, encode
from della_bench.spec.templates import AUTO, Template, TemplateChoice, template_text
from della_bench.spec.tensor import TensorSpec
from della_bench.spec.thresholds import fits_density
from della_bench.spec.varying import Value, Varying, value_at
from della_bench.spec.vocabulary import TokenizerChoice, TokenRow, tokenizer_text

__all__ = ["MergeSpec"]

log = logging.getLogger(__name__)

_NOT_GIVEN = object()


@dataclass(frozen=True)
class MergeSpec:
    """A merge, fully determined: the same spec and the same input files give the same bits.

    Made by `MergeSpec.parse`, which checks everything. Keys that the method does not use hold their neutral value, so
    that two specs are equal exactly when they mean the same (and have the same name). `weights` hold one value an
    expert, and so do `density` and `epsilon`, which are empty where the method has none. A value is a number, or a
    `Varying` that differs from tensor to tensor; `at` makes plain numbers of it. `options` are the keys that the method
    has of its own, each with its value, in the order in which the method names them. `slices` is empty where the merge
    has all layers of its sources.
    """

    base: Source
    experts: tuple[Source, ...]
    merge_method: str
    weights: tuple[Value, ...]
    density: tuple[Value, ...]
    epsilon: tuple[Value, ...]
    lambda_: Value
    rescale: Rescale
    elect: Elect
    normalize: bool
    seed: int
    dtype: str | None
    tokenizer: TokenizerChoice | None
    chat_template: TemplateChoice | None
    name: str | None
    options: tuple[tuple[str, OwnValue], ...] = ()
    tokens: tuple[TokenRow, ...] = ()
    pad_to_multiple_of: int | None = None
    slices: Slices = ()
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
        fields = read_fields(spec, keys, lambda stage: str(cls.parse(stage)))
        parsed = cls(**fields)
        if parsed.unused:
            log.warning("merge_method=%s does not use %s: ignored", parsed.merge_method, ", ".join(parsed.unused))
        if parsed.merge_method == "slerp" and set(parsed.weights) == {1.0}:
            log.warning("merge_method=slerp: the weight is t, from 0 (the base) to 1 (the expert): 1 merges nothing")
        for source, count in Counter(parsed.experts).items():
            if count > 1:
                log.warning("experts: %s is given %d times, and merged as %d experts", source, count, count)
        return parsed._with_template_of_stage()

    def _with_template_of_stage(self) -> MergeSpec:
        """Return the spec with the chat template of what its tokenizer comes from, where that is a merge with one."""
        owner = self.tokenizer if isinstance(self.tokenizer, Source) else self.base
        stage = self.stages.get(owner)
        if stage is None or stage.chat_template is None or self.chat_template:
            return self
        if stage.chat_template == Template(AUTO):  # here it would be the most usual one of other models
            log.warning("chat_template: %s has auto, which is not taken; name a template here", stage.display_name)
            return self
        return replace(self, chat_template=stage.chat_template)

    @cached_property
    def stages(self) -> dict[Source, MergeSpec]:
        """The specs of those of its sources that are merges of their own."""
        merges = {source for source in self._sources if source is not None and source.scheme == "merge"}
        return {source: MergeSpec.parse(source.place) for source in merges}

    @property
    def models(self) -> tuple[Source, ...]:
        """The base and then the experts, in the spec's order."""
        return (self.base, *self.experts)

    @property
    def _sources(self) -> tuple[Source | None, ...]:
        others = (self.tokenizer, self.chat_template)
        return (*self.models, *(other if isinstance(other, Source) else None for other in others))

    @property
    def varies(self) -> bool:
        """Whether any number differs from tensor to tensor."""
        return any(isinstance(value, Varying) for value in self.values)

    @property
    def values(self) -> list[Value]:
        """All that may vary: weights, densities, epsilons, lambda, and what the method has of its own."""
        own = [one for _, value in self.options for one in (value if isinstance(value, tuple) else (value,))]
        return [*self.weights, *self.density, *self.epsilon, self.lambda_, *own]

    @property
    def merges_into_base(self) -> bool:
        """Whether what is merged is what the experts add to the base; not where whole weights are."""
        return uses_base(self.method, dict(self.options))

    def at(self, name: str, place: float | Place = 0.0) -> TensorSpec:
        """Return the plain numbers for a tensor, at `place` among the layers (0: the first one, 1: the last).

        Of a merge of slices, those for the experts that are members of the tensor's slice. Raises SpecError where there
        is none for a tensor of this name, or where they do not fit each other.
        """
        if not isinstance(place, Place):
            place = Place(place)
        if not self.varies and place.members is None:
            return self._plain
        return _numbers_of(self, name, place)

    @cached_property
    def _plain(self) -> TensorSpec:
        return _numbers_of(self, "", Place(0.0))

    @property
    def method(self) -> Method:
        """What the method does: a row of the methods' table, or another package's."""
        return find_method(self.merge_method)

    @property
    def display_name(self) -> str:
        """What tables call the merge: its name, or the method and its numbers."""
        if self.name is not None:
            return self.name
        shown = ("slices", "density", "epsilon", "lambda", "weights", *(name for name, _ in self.options))
        numbers = [f"{key}{value}" for key, value in self._texts().items() if key in shown]
        return "-".join([self.merge_method, *numbers])

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over every effective value but the name, and over the version of the merging algorithm.

        Where a method has a version of its own, as those of other packages do, that and the package's name are in it.
        """
        return self._digest()

    @property
    def recipe_digest(self) -> str:
        """SHA-256 (hex) over what `digest` is but the sources' names: over what is done, and not to which models."""
        return self._digest(of_recipe=True)

    def _digest(self, *, of_recipe: bool = False) -> str:
        left_out, defaults = (SOURCE_KEYS if of_recipe else ("name",)), self._defaults()
        added = {option.name: defaults[option.name] for option in self.method.options if option.added}
        effective = {
            key: value
            for key, value in self.as_keys(effective=True).items()
            if key not in left_out and added.get(key, _NOT_GIVEN) != value
        }
        algorithm: dict[str, Any] = {"algorithm": ALGORITHM_VERSION, **algorithms(self.tokenizer, self.chat_template)}
        done = recipe(self.tokenizer, self.tokens, self.chat_template, self.models)
        if of_recipe:
            algorithm |= done
        if self.stages:  # each by its own digest: its text has its name in it
            texts = {str(source): str(replace(source, place="")) for source in self.stages}
            for key in ("base", "tokenizer", "chat_template"):
                if key in effective:
                    effective[key] = texts.get(effective[key], effective[key])
            if "experts" in effective:
                effective["experts"] = [texts.get(text, text) for text in effective["experts"]]
            if "tokens" in effective:
                effective["tokens"] = done["tokens"]
            stages = [self.stages.get(source) if source else None for source in self._sources]
            algorithm["stages"] = [stage and stage._digest(of_recipe=of_recipe) for stage in stages]
        if self.method.version:
            algorithm["method"] = [self.method.package, self.method.version]
        whole = json.dumps({**algorithm, **effective}, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(whole.encode("ascii")).hexdigest()

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
            "slices": self._slice_texts() or None,
            "merge_method": self.merge_method,
            "weights": [plain(value) for value in self.weights],
            "density": [plain(value) for value in self.density],
            "epsilon": one_for_all([plain(value) for value in self.epsilon]),
            "lambda": plain(self.lambda_),
            "rescale": self.rescale,
            "elect": self.elect,
            "normalize": self.normalize,
            "seed": self.seed,
            **{name: plain_option(value) for name, value in self.options},
            "dtype": self.dtype,
            "tokenizer": None if self.tokenizer is None else tokenizer_text(self.tokenizer),
            "tokens": [str(row) for row in self.tokens] or None,
            "pad_to_multiple_of": self.pad_to_multiple_of,
            "chat_template": None if self.chat_template is None else template_text(self.chat_template, self.models),
            "name": None if self.name is None else encode(self.name),
        }
        return {
            key: value
            for key, value in values.items()
            if (row.option(key) is not None or is_used(key, row))
            and value is not None
            and defaults.get(key, _NOT_GIVEN) != value
        }

    def __str__(self) -> str:
        """Return the canonical string: what one pastes after --model_args."""
        return ",".join(f"{key}={value}" for key, value in self._texts().items())

    def _defaults(self) -> dict[str, Any]:
        row = self.method
        return {
            **{key: what.default for key, what in KEYS.items() if what.default is not None},
            "weights": [KEYS["weights"].default] * len(self.experts),
            "rescale": row.rescale,
            "elect": row.elect,
            "normalize": row.normalize,
            **{
                option.name: plain_option(value)
                for option in row.options
                if (value := default(option, len(self.experts))) is not None
            },
        }

    def _slice_texts(self) -> list[str]:
        return [slice_text(one, len(self.experts), with_base=self.merges_into_base) for one in self.slices]

    def _texts(self) -> dict[str, str]:
        return {key: key_text(key, value) for key, value in self.as_keys().items()}


def _numbers_of(spec: MergeSpec, name: str, place: Place) -> TensorSpec:
    faults: list[str] = []
    members = place.members
    if members is None:
        members = tuple((expert, name) for expert in range(len(spec.experts)))

    def numbers(key: str, values: Sequence[Value], names: Sequence[str] | None = None) -> tuple[float, ...]:
        own = [name] * len(values) if names is None else names
        found = [value_at(value, each, place.depth, place.slice) for value, each in zip(values, own, strict=True)]
        if None in found:
            faults.append(f"{key}: no rule is for tensor {name}; give a last one without a pattern, for the rest")
        return tuple(0.0 if number is None else number for number in found)

    def of_members(key: str, values: Sequence[Value], *, by_merge: bool = False) -> tuple[float, ...]:
        """Return what the members have, by the names of their own tensors; empty where the method has no such key.

        by_merge: by the name of the merge's tensor.
        """
        if not values:
            return ()
        names = None if by_merge else [each for _, each in members]
        return numbers(key, [values[expert] for expert, _ in members], names)

    def option(key: str, value: OwnValue) -> OptionValue:
        if isinstance(value, Varying):
            return numbers(key, [value])[0]
        return of_members(key, value) if isinstance(value, tuple) else value

    made = TensorSpec(
        merge_method=spec.merge_method,
        weights=of_members("weights", spec.weights, by_merge=spec.method.weights_by_merge),
        density=of_members("density", spec.density),
        epsilon=of_members("epsilon", spec.epsilon),
        lambda_=numbers("lambda", [spec.lambda_])[0],
        rescale=spec.rescale,
        elect=spec.elect,
        normalize=spec.normalize,
        seed=spec.seed,
        options=tuple((key, option(key, value)) for key, value in spec.options),
    )
    if spec.method.magprune and not faults:
        for density, epsilon in zip(made.density, made.epsilon, strict=True):
            if not fits_density(epsilon, density):
                faults.append(f"epsilon={number_text(epsilon)} at tensor {name}: {too_wide(density)}")
    if faults:
        raise SpecError(faults)
    return made
