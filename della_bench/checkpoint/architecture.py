"""What transformers makes of a config: which parameters its model has, and where a checkpoint's tensors go in it.

Asked only where the names of two checkpoints' tensors differ: the model is built, without memory for its weights, and
that takes torch and some tenths of a second.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.model import ModelFolder, config_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.core_model_loading import WeightConverter

__all__ = ["Architecture", "Architectures", "Part"]

log = logging.getLogger(__name__)

_HEAD, _TEXT = "head of the text model", "text model: "


@dataclass(frozen=True)
class Part:
    """Where a matrix of one expert of a mixture goes in the model's tensor of all of them, (experts, rows, columns).

    fused: that tensor's name in the model. expert: which of the first dimension. index: which of `count` equal
    stretches of the rows: gate and up lie one below the other.
    """

    fused: str
    expert: int
    index: int
    count: int


class Architecture:
    """A model of transformers without weights, asked for the names of its parameters.

    A place is a parameter's name in this model. The text part has one name in all of them, so that the text part of a
    model of several parts (`model.language_model.layers.0`) is that of a model of text alone (`model.layers.0`).
    """

    def __init__(self, model: PreTrainedModel, text_type: str) -> None:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        self.text_type = text_type
        self._names = model.state_dict()
        self._prefix = model.base_model_prefix
        steps = get_model_conversion_mapping(model)
        self._renamings = [step for step in steps if isinstance(step, WeightRenaming)]
        self._converters = [step for step in steps if isinstance(step, WeightConverter)]
        self._fusing = _fusing(self._converters)
        paths = {module: f"{name}." if name else "" for name, module in model.named_modules()}
        self._transposed = {path for module, path in paths.items() if getattr(module, "is_transposed", False)}
        whole = model.config.get_text_config() is model.config
        self._text = "" if whole else paths[model.get_decoder()]
        self._decoder = "" if model.config.is_encoder_decoder else paths.get(model.get_decoder(), "")
        head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
        self.head = f"{paths[head]}weight" if head in paths else ""
        self.embedding = f"{paths[embedding]}weight" if embedding in paths else ""

    def place(self, name: str) -> str:
        """Return where transformers puts a tensor of a checkpoint; one that it has no place for keeps its name."""
        new = self._renamed(name, convert=False)
        if new == self.head:
            return _HEAD
        is_text = new.startswith(self._decoder) and self._renamed(name, convert=True) in self._names
        return _TEXT + new.removeprefix(self._decoder) if is_text else new

    def needs(self, name: str) -> bool:
        """Whether a tensor of a checkpoint is, or goes into, a parameter of the text model or of its head.

        What a model of several parts has beside it (a vision tower, a projector) is not counted.
        """
        name = self._renamed(name, convert=True)
        return name in self._names and (name.startswith(self._text) or name == self.head)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape that a tensor of a checkpoint has by its config; None where it is no parameter as it is."""
        if part := self.part(name):
            _, rows, *columns = self._names[part.fused].shape
            return (rows // part.count, *columns)
        new = self._renamed(name, convert=False)
        converted = self._renamed(name, convert=True) != new
        return tuple(self._names[new].shape) if new in self._names and not converted else None

    def part(self, name: str) -> Part | None:
        """Return where a matrix of one expert goes in the tensor of all of them; None for any other tensor."""
        fused, pattern = self._matched(name, convert=True)
        patterns = self._fusing.get(pattern or "", [])
        if not patterns or fused not in self._names:
            return None
        number = re.search(str(pattern).replace("*.", r"(\d+)\."), self._matched(name, convert=False)[0])
        return Part(fused, int(number[1]), patterns.index(str(pattern)), len(patterns)) if number else None

    def siblings(self, name: str) -> dict[str, Part]:
        """Return all parts of the tensor that a matrix of one expert is a part of, under names like its own."""
        part = self.part(name)
        if part is None:
            return {}
        leaves = [pattern.rpartition("*.")[2] for pattern in self._fusing[str(self._matched(name, convert=True)[1])]]
        stem = name.removesuffix(f"{part.expert}.{leaves[part.index]}")
        return {
            f"{stem}{expert}.{leaf}": Part(part.fused, expert, index, part.count)
            for expert in range(self._names[part.fused].shape[0])
            for index, leaf in enumerate(leaves)
        }

    def of_module(self, module: str) -> list[str]:
        """Return the names of the parameters that a module itself has, in the order in which it has them."""
        return [name for name in self._names if name.rpartition(".")[0] == module]

    def is_transposed(self, name: str) -> bool:
        """Whether a tensor goes into a module of experts that says its matrices are (in, out), and not (out, in)."""
        return f"{self._renamed(name, convert=True).rpartition('.')[0]}." in self._transposed

    def is_head(self, name: str) -> bool:
        """Whether a tensor of a checkpoint is the head."""
        return self._renamed(name, convert=False) == self.head

    def is_embedding(self, name: str) -> bool:
        """Whether a tensor of a checkpoint is the embedding of tokens."""
        return self._renamed(name, convert=False) == self.embedding

    def _renamed(self, name: str, *, convert: bool) -> str:
        """Return the name in the model. convert: that of the stack, for a tensor which is stacked with others."""
        return self._matched(name, convert=convert)[0]

    def _matched(self, name: str, *, convert: bool) -> tuple[str, str | None]:
        """Return what `_renamed` does, and the pattern of what stacks the tensor with others."""
        from transformers.core_model_loading import rename_source_key

        converters = self._converters if convert else []
        new, pattern = rename_source_key(name, self._renamings, converters, self._prefix, self._names)
        return (name, None) if new not in self._names and name in self._names else (str(new), pattern)


def _fusing(converters: list[WeightConverter]) -> dict[str, list[str]]:
    """Return, by its pattern, the patterns of all parts of the tensor of a mixture's experts that a matrix goes into.

    Of what transformers converts, that alone: each part's experts are stacked, and the parts lie one below the other.
    """
    from transformers.core_model_loading import Concatenate, MergeModulelist

    found: dict[str, list[str]] = {}
    for step in converters:
        first, *others = step.operations
        stacks = isinstance(first, MergeModulelist) and first.dim == 0
        joins = [isinstance(other, Concatenate) and other.dim == 1 for other in others] in ([], [True])
        if stacks and joins and all("*." in pattern for pattern in step.source_patterns):
            found |= dict.fromkeys(step.source_patterns, step.source_patterns)
    return found


class Architectures:
    """The architectures of a base and its experts, each built when it is first asked for."""

    def __init__(self, base: ModelFolder) -> None:
        self._base = base
        self._built: dict[ModelFolder, Architecture | None] = {}

    @property
    def asked(self) -> bool:
        """Whether any was asked for yet."""
        return bool(self._built)

    def of(self, source: ModelFolder) -> Architecture | None:
        """Return a source's; None where transformers cannot build it without further code.

        An expert's is of the base's kind (causal language model, classifier), with the expert's own numbers.
        """
        if source not in self._built:
            like = self._base if source.model_type == self._base.model_type else source
            self._built[source] = _build(source, like.config.get("architectures") or [])
        return self._built[source]


def _build(source: ModelFolder, named: list[str]) -> Architecture | None:
    import torch
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if source.model_type not in CONFIG_MAPPING:
        return None
    try:
        config = config_of(source.model_type, source.config, "quantization_config")
        cls = _model_class(config, named)
        if cls is None:
            return None
        text = config.get_text_config()
        with torch.device("meta"):
            model = cls(text if cls.config_class is type(text) else config)
        return Architecture(model, text.model_type)
    except Exception as error:  # whatever a model's own code makes of a config that it was not written for
        log.debug("%s: transformers cannot build its model: %s: %s", source.label, type(error).__name__, error)
        return None


def _model_class(config: PretrainedConfig, named: list[str]) -> Any:
    """Return the class that runs a model: what generates text before what the config names."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    classifier = next((name for name in named if name.endswith("Classification")), None)
    if classifier and hasattr(transformers, classifier):
        return getattr(transformers, classifier)
    for mapping in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_MULTIMODAL_LM_MAPPING,
        auto.MODEL_MAPPING,
    ):
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple) else found
    return None
