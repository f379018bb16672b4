"""A LoRA adapter as an expert: the base's tensors with the adapter's updates, made one at a time when loaded."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from della_bench.checkpoint.canonical import HEAD, align, is_tied, parameters, vocab_size
from della_bench.checkpoint.formats import TensorInfo, open_file
from della_bench.checkpoint.lora import Rules, Update, refusals, updates
from della_bench.checkpoint.model import ModelFolder, read_json
from della_bench.checkpoint.stored import Stored
from della_bench.checkpoint.weights import ADAPTER_FILES, model_files
from della_bench.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Adapter", "is_adapter"]

log = logging.getLogger(__name__)

_CONFIG = "adapter_config.json"
# transformers' Conv1D: linear layers that store their weight transposed.
_CONV1D = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}
_CONV1D_MODULE = re.compile(r"(^|\.)(c_attn|q_attn|c_proj|c_fc)$")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    is_whole = (folder / "config.json").is_file() and bool(model_files(folder))
    return (folder / _CONFIG).is_file() and not is_whole


class Adapter(ModelFolder):
    """An adapter folder of PEFT (adapter_config.json and adapter_model.safetensors or .bin) over its base.

    A tensor with an update is base + scaling * (B @ A), and bias and modules_to_save replace the base's. All of it is
    float32, each product and sum rounded once, so that its bits depend on the files alone; the result is not rounded
    to the base's dtype before it is merged. A tensor without an update is the base's own.

    Raises CheckpointError that names all that cannot be merged: other kinds of adapters, factors without their
    partner, ranks that are not the config's. An update of a parameter that the base does not have stays among
    `tensors` under its own name, for check_fit to tell.
    """

    def __init__(self, folder: Path, label: str, base: ModelFolder) -> None:
        """Read the adapter's config and headers; `label` is what errors call it."""
        self.folder, self.label = folder, label
        settings = read_json(folder / _CONFIG, label)
        if faults := refusals(settings):
            raise CheckpointError("\n".join(f"{label}: {_CONFIG}: {fault}" for fault in faults))
        file = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
        if file is None:
            raise CheckpointError(f"{label}: {folder} holds {_CONFIG} but no {' or '.join(ADAPTER_FILES)}")
        self._file = open_file(file, label)
        self._rules = Rules(settings)
        self._fan_in_fan_out = bool(settings.get("fan_in_fan_out"))
        self.files = [folder / _CONFIG, file]
        self.config = dict(base.config)
        if origin := settings.get("base_model_name_or_path"):
            self.hint = f"the adapter was trained on {origin}"
        self._base = parameters(base)
        self._updates = self._aligned(updates(self._file.tensors))
        self._check()
        self._keep_tied(base)
        self.tensors = {**self._base, **{name: self._result(name) for name in self._updates}}
        self._take_vocabulary()

    def load_over(self, name: str, base: torch.Tensor) -> torch.Tensor:
        """Return one tensor: `base` itself where the adapter changes nothing, else the update in float32."""
        update = self._updates.get(name)
        if update is None:
            return base
        tensor = base if update.replacement is None else self._file.load(update.replacement).tensor()
        if not update.factors:
            return tensor
        from della_bench.checkpoint.product import product

        a, b = (self._file.load(update.factors[side]).tensor() for side in "AB")
        delta = product(a.T, b.T) if self._is_transposed(name) else product(b, a)
        if delta.shape != tensor.shape:  # rows for new tokens without the embedding that they are added to
            raise CheckpointError(
                f"{self.label}: {name}: the update has shape {list(delta.shape)}, what it changes {list(tensor.shape)}"
            )
        return delta.mul_(self._rules.scaling(update.module)).add_(tensor.float())

    def stored_over(self, name: str, base: Stored) -> Stored:
        """Return one tensor as `load_over` does; `base` itself where the adapter changes nothing."""
        return super().stored_over(name, base) if name in self._updates else base

    def _aligned(self, found: dict[str, Update]) -> dict[str, Update]:
        names = align(found, self._base)
        return {names.get(name, name): update for name, update in found.items()}

    def _check(self) -> None:
        faults = []
        for update in self._updates.values():
            for name in update.factors.values():
                if not (info := self._file.tensors[name]).is_float or len(info.shape) != 2:
                    faults.append(f"{name} is {info}, not a matrix of floats")
            if len(update.factors) == 1:
                faults.append(f"{next(iter(update.factors.values()))} has no partner")
            elif update.factors and not faults:
                ranks = [self._shape(update, "A")[0], self._shape(update, "B")[1]]
                if ranks != [rank := self._rules.rank(update.module)] * 2:
                    faults.append(
                        f"{update.module}: the ranks of lora_A and lora_B are {ranks}, the config's is {rank}"
                    )
        if faults:
            raise CheckpointError("\n".join(f"{self.label}: {self.files[1].name}: {fault}" for fault in faults))

    def _keep_tied(self, base: ModelFolder) -> None:
        """Drop a head that repeats the embedding; refuse one of its own where the base ties them."""
        if not is_tied(base):
            return
        for head in [name for name in self._updates if HEAD.search(name) and name not in self._base]:
            if not self._repeats_another(self._updates[head]):
                raise CheckpointError(f"{self.label}: changes {head}, which {base.label} ties to its embedding")
            del self._updates[head]
        if embeddings := [name for name in self._updates if self._has_vocabulary(name)]:
            log.warning("%s: changes %s, and with it the head that is tied to it", self.label, ", ".join(embeddings))

    def _repeats_another(self, head: Update) -> bool:
        import torch

        if head.factors or head.replacement is None:
            return False
        tensor = self._file.load(head.replacement).tensor()
        others = [u.replacement for u in self._updates.values() if u is not head and u.replacement and not u.factors]
        return any(
            self._file.tensors[name].shape == tuple(tensor.shape)
            and torch.equal(tensor, self._file.load(name).tensor())
            for name in others
        )

    def _shape(self, update: Update, side: str) -> tuple[int, ...]:
        return self._file.tensors[update.factors[side]].shape

    def _result(self, name: str) -> TensorInfo:
        """Return what an update makes; the dtype of a sum counts as the base's, and loading gives float32."""
        update, known = self._updates[name], self._base.get(name)
        stored = self._file.tensors[update.replacement] if update.replacement else known
        if not update.factors:
            return self._file.tensors[update.replacement or ""]
        made = (self._shape(update, "B")[0], self._shape(update, "A")[1])
        shape = made[::-1] if self._is_transposed(name) else made
        if update.replacement and stored and stored.shape != shape:
            raise CheckpointError(
                f"{self.label}: {self.files[1].name}: {update.replacement} is {stored}, its update is {list(shape)}"
            )
        info = stored or self._file.tensors[update.factors["B"]]
        return replace(info, shape=shape, file=self.files[1])

    def _is_transposed(self, name: str) -> bool:
        """Whether a parameter is stored as (in, out): embeddings and Conv1D."""
        update, known = self._updates[name], self._base.get(name)
        if update.is_embedding:
            return True
        if self.model_type in _CONV1D:
            return bool(_CONV1D_MODULE.search(update.module))
        made = (self._shape(update, "A")[1], self._shape(update, "B")[0])
        return self._fan_in_fan_out and known is not None and known.shape == made

    def _has_vocabulary(self, name: str) -> bool:
        known = self._base.get(name)
        return known is not None and known.shape[:1] == (vocab_size(self.config),)

    def _take_vocabulary(self) -> None:
        """Note a changed number of tokens in the config, as a whole model would have it."""
        for name, update in self._updates.items():
            if update.replacement and self._has_vocabulary(name) and (shape := self.tensors[name].shape):
                self.config["vocab_size"] = shape[0]
                return
