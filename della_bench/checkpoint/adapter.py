"""A LoRA adapter as an expert: the base's tensors with the adapter's updates, made one at a time when loaded."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path

from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.canonical import HEAD, align, is_tied, parameters, vocab_size
from della_bench.checkpoint.files import SafetensorsFile, TorchFile
from della_bench.checkpoint.fused import fused_form, in_form_of, parted_form
from della_bench.checkpoint.lora import Rules, Update, refusals, retargeted, several_adapters, updates
from della_bench.checkpoint.model import ADAPTER_FILES, ModelFolder, WeightFile, check_dtypes, model_files, read_json
from della_bench.checkpoint.tensor import HostTensor, TensorInfo
from della_bench.checkpoint.tokenizers import has_tokenizer
from della_bench.errors import CheckpointError

__all__ = ["Adapter", "open_adapter"]

log = logging.getLogger(__name__)

_CONFIG = "adapter_config.json"
# transformers' Conv1D: linear layers that store their weight transposed.
_CONV1D = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"}
_CONV1D_MODULE = re.compile(r"(^|\.)(c_attn|q_attn|c_proj|c_fc)$")


def open_adapter(folder: Path, label: str, base: ModelFolder | None, *, whole: bool = False) -> ModelFolder | None:
    """Open an adapter over its base; return None where the folder holds none, or a whole model besides.

    whole: whether it and its base are to be one model; see `Adapter.become_whole`.

    Raises CheckpointError where the adapter is to be the base itself.
    """
    is_whole = (folder / "config.json").is_file() and bool(model_files(folder))
    if is_whole or not (folder / _CONFIG).is_file():
        return None
    if base is None:
        raise CheckpointError(f"{label}: a LoRA adapter; it can be an expert, but the base is a whole model")
    opened = Adapter(folder, label, base)
    if whole:
        opened.become_whole()
    return in_form_of(opened, base)


class Adapter(ModelFolder):
    """An adapter folder of PEFT (adapter_config.json and adapter_model.safetensors or .bin) over its base.

    A tensor with an update is base + scaling * (B @ A), and bias and modules_to_save replace the base's. All of it is
    float32, each product and sum rounded once, so that its bits depend on the files alone; the result is not rounded
    to the base's dtype before it is merged. A tensor without an update is the base's own. In a tensor of all experts of
    a mixture, (experts, ...), the update is that of each expert: B's columns and A's rows hold a rank of each.

    `base` is what it was given, or, where the adapter names a mixture's experts in another form, a view in that form.

    Raises CheckpointError that names all that cannot be merged: other kinds of adapters, factors without their
    partner, ranks that are not the config's. An update of a parameter that the base does not have stays among
    `tensors` under its own name, for check_fit to tell.
    """

    def __init__(self, folder: Path, label: str, base: ModelFolder) -> None:
        """Read the adapter's config and headers; `label` is what errors call it."""
        self.folder = self._place = folder
        self.label = label
        settings = read_json(folder / _CONFIG, label)
        if faults := refusals(settings):
            raise CheckpointError("\n".join(f"{label}: {_CONFIG}: {fault}" for fault in faults))
        file = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
        if file is None:
            raise CheckpointError(f"{label}: {folder} holds {_CONFIG} but no {' or '.join(ADAPTER_FILES)}")
        self._file: WeightFile = (TorchFile if file.suffix == ".bin" else SafetensorsFile)(file, label)
        check_dtypes(label, [self._file])
        if not self._file.tensors:
            raise CheckpointError(f"{label}: {file.name} holds no tensors: nothing was saved of its training")
        if several := several_adapters(self._file.tensors):
            raise CheckpointError(
                f"{label}: {file.name} holds several adapters ({', '.join(several)}), and one is merged"
            )
        self._rules = Rules(settings)
        self._fan_in_fan_out = bool(settings.get("fan_in_fan_out"))
        self.files = [folder / _CONFIG, file]
        self.config = dict(base.config)
        if origin := str(settings.get("base_model_name_or_path") or ""):
            self.hint = f"the adapter was trained on {origin}"
            if not _is_same_model(origin, base):
                log.warning(
                    "%s: says that it was trained on %s; it is taken as trained on %s", label, origin, base.label
                )
        named, self._known = updates(self._file.tensors), Architectures(base)
        targets = settings.get("target_parameters") or []
        self.base = fused_form(base, self._known) if targets else parted_form(base, named, self._known)
        self._parameters, self._whole = parameters(self.base), False
        self._updates = self._aligned(retargeted(named, targets, self._of_module) if targets else named)
        self._check()
        self._keep_tied()
        self.tensors = {**self._parameters, **{name: self._result(name) for name in self._updates}}
        self._take_vocabulary()

    def tensor(self, name: str) -> HostTensor:
        """Return one tensor: the base's own where the adapter changes nothing, else the update in float32."""
        update = self._updates.get(name)
        if update is None:
            return self.base.tensor(name)
        if update.factors and self._experts(name):
            info = replace(self.tensors[name], dtype="F32")
            return HostTensor.joined((self.expert(name, number) for number in range(info.shape[0])), info)
        below = self.base.tensor(name) if update.replacement is None else self._file.tensor(update.replacement)
        return self._sum(name, below) if update.factors else below

    def expert(self, name: str, number: int) -> HostTensor:
        """Return what a tensor of all experts holds of one of them; no other expert's is computed."""
        update = self._updates.get(name)
        if update is None:
            return self.base.expert(name, number)
        if not (update.factors and self._experts(name)):
            return super().expert(name, number)
        return self._sum(name, self.base.expert(name, number), number)

    def _sum(self, name: str, below: HostTensor, expert: int = 0) -> HostTensor:
        """Return what an update makes of a matrix: of the whole tensor, or of one expert's part of it."""
        from della_bench.checkpoint.product import product

        update, experts = self._updates[name], self._experts(name) or 1
        a, b = (self._file.tensor(update.factors[side]).to_torch() for side in "AB")
        # As peft lays them out: A is (experts, rank) by its rows, B (rank, experts) by its columns.
        a, b = a.chunk(experts)[expert], b[:, expert::experts]
        delta = product(a.T, b.T) if self._is_transposed(name) else product(b, a)
        if delta.shape != below.shape:  # rows for new tokens without the embedding that they are added to
            raise CheckpointError(
                f"{self.label}: {name}: the update has shape {list(delta.shape)}, what it changes {list(below.shape)}"
            )
        return HostTensor.of(delta.mul_(self._rules.scaling(update.module)).add_(below.to_torch().float()))

    def become_whole(self) -> None:
        """Be one model with the one below: its folder is that of the config, and its files are those of both."""
        self.folder = self.base.folder
        self.files = [*self.base.files, *self.files]
        self.recipe, self.generation_changes = self.base.recipe, self.base.generation_changes
        self._whole = True

    @property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer's files lie: beside the adapter, or those of the model that it is one with.

        An adapter that changes the number of tokens was trained with a tokenizer of its own, which says what they are.
        """
        brings_tokens = vocab_size(self.config) != vocab_size(self.base.config)
        if self._whole and not (brings_tokens and has_tokenizer(self._place)):
            return self.base.tokenizer_folder
        return self._place

    def inputs(self, role: str) -> list[tuple[str, Path]]:
        """Return (role, path) of each file that its tensors depend on, the base's own files apart."""
        if not self._whole:
            return super().inputs(role)
        below = self.base.inputs(role)
        files = sorted(set(self.files) - {path for _, path in below})
        return [*below, *((f"{role}, adapter", path) for path in files)]

    def must_fit(self, name: str) -> bool:
        """Whether it updates what the base lacks; a whole module saved beside (a classifier) may be left out.

        What LoRA calls its own and is no factor is an update that cannot be made.
        """
        update = self._updates.get(name)
        return update is not None and (
            bool(update.factors) or ".lora_" in name or not name.endswith((".weight", ".bias"))
        )

    def _aligned(self, named: dict[str, Update]) -> dict[str, Update]:
        """Return the updates by the base's names of what they change.

        Names that differ by more than a prefix meet where transformers puts both: it names the layers of a model of
        several parts in another way than the checkpoint does.
        """
        names = align(named, self._parameters)
        if (others := named.keys() - names.keys()) and (known := self._known.of(self.base)):
            free = self._parameters.keys() - set(names.values())
            places = {known.place(name): name for name in free}
            names |= {name: places[place] for name in others if (place := known.place(name)) in places}
        return {names.get(name, name): update for name, update in named.items()}

    def _of_module(self, module: str) -> list[str]:
        """Return the names of a module's own parameters, in the order in which the module has them."""
        if known := self._known.of(self.base):
            return known.of_module(module)
        return [name for name in self._parameters if name.rpartition(".")[0] == module]

    def _experts(self, name: str) -> int:
        """Return how many experts a parameter holds, 0 where it is none of all experts of a mixture."""
        parameter = self._parameters.get(name)
        return parameter.shape[0] if parameter is not None and len(parameter.shape) == 3 else 0

    def _check(self) -> None:
        faults = []
        for name_changed, update in self._updates.items():
            for name in update.factors.values():
                if not (info := self._file.tensors[name]).is_float or len(info.shape) != 2:
                    faults.append(f"{name} is {info}, not a matrix of floats")
            if len(update.factors) == 1:
                faults.append(f"{next(iter(update.factors.values()))} has no partner")
            elif update.factors and not faults:
                ranks = [self._shape(update, "A")[0], self._shape(update, "B")[1]]
                rank, experts = self._rules.rank(update.module), self._experts(name_changed)
                if ranks != [rank * (experts or 1)] * 2:
                    faults.append(
                        f"{update.module}: the ranks of lora_A and lora_B are {ranks}, the config's is {rank}"
                        f"{f' for each of {experts} experts' if experts else ''}"
                    )
        if faults:
            raise CheckpointError("\n".join(f"{self.label}: {self.files[1].name}: {fault}" for fault in faults))

    def _keep_tied(self) -> None:
        """Drop a head that repeats the embedding; refuse one of its own where the base ties them."""
        if not is_tied(self.base):
            return
        for head in [name for name in self._updates if HEAD.search(name) and name not in self._parameters]:
            if not self._repeats_another(self._updates[head]):
                raise CheckpointError(f"{self.label}: changes {head}, which {self.base.label} ties to its embedding")
            del self._updates[head]
        if embeddings := [name for name in self._updates if self._has_vocabulary(name)]:
            log.warning("%s: changes %s, and with it the head that is tied to it", self.label, ", ".join(embeddings))

    def _repeats_another(self, head: Update) -> bool:
        import torch

        if head.factors:
            return any(
                self._is_the_other_way_round(head, each)
                for each in self._updates.values()
                if each.is_embedding and each.factors
            )
        if head.replacement is None:
            return False
        tensor = self._file.tensor(head.replacement)
        others = [u.replacement for u in self._updates.values() if u is not head and u.replacement and not u.factors]
        return any(
            self._file.tensors[name].shape == tensor.shape
            and torch.equal(tensor.to_torch(), self._file.tensor(name).to_torch())
            for name in others
        )

    def _is_the_other_way_round(self, head: Update, embedding: Update) -> bool:
        """Whether a head's factors are an embedding's, transposed: so peft saves a tied head (ensure_weight_tying)."""
        import torch

        def factor(update: Update, side: str) -> torch.Tensor:
            return self._file.tensor(update.factors[side]).to_torch()

        sides = [(factor(head, one), factor(embedding, other).T) for one, other in ("AB", "BA")]
        return all(ours.shape == theirs.shape and torch.equal(ours, theirs) for ours, theirs in sides)

    def _shape(self, update: Update, side: str) -> tuple[int, ...]:
        return self._file.tensors[update.factors[side]].shape

    def _result(self, name: str) -> TensorInfo:
        """Return what an update makes; the dtype of a sum counts as the base's, and loading gives float32."""
        update = self._updates[name]
        below = self._file.tensors[update.replacement] if update.replacement else self._parameters.get(name)
        if not update.factors:
            return self._file.tensors[update.replacement or ""]
        product: tuple[int, ...] = (self._shape(update, "B")[0], self._shape(update, "A")[1])
        shape = product[::-1] if self._is_transposed(name) else product
        if experts := self._experts(name):
            shape = (experts, *shape)
        if update.replacement and below and below.shape != shape:
            raise CheckpointError(
                f"{self.label}: {self.files[1].name}: {update.replacement} is {below}, its update is {list(shape)}"
            )
        return replace(below or self._file.tensors[update.factors["B"]], shape=shape)

    def _is_transposed(self, name: str) -> bool:
        """Whether a parameter is stored as (in, out): embeddings, Conv1D, and the experts of some mixtures.

        Of experts, the shapes tell; where their matrices are square, what transformers' module says of itself.
        """
        update, parameter = self._updates[name], self._parameters.get(name)
        if update.is_embedding:
            return True
        if parameter is not None and self._experts(name):
            into, out = self._shape(update, "A")[1], self._shape(update, "B")[0]
            if into == out and (known := self._known.of(self.base)):
                return known.is_transposed(name)
            return into != out and parameter.shape[1:] == (into, out)
        if self.model_type in _CONV1D:
            return bool(_CONV1D_MODULE.search(update.module))
        product = (self._shape(update, "A")[1], self._shape(update, "B")[0])
        return self._fan_in_fan_out and parameter is not None and parameter.shape == product

    def _has_vocabulary(self, name: str) -> bool:
        parameter = self._parameters.get(name)
        return parameter is not None and parameter.shape[:1] == (vocab_size(self.config),)

    def _take_vocabulary(self) -> None:
        """Note a changed number of tokens in the config, as a whole model would have it."""
        for name, update in self._updates.items():
            if update.replacement and self._has_vocabulary(name) and (shape := self.tensors[name].shape):
                inner = self.config.get("text_config")
                if inner is None or "vocab_size" in self.config:
                    self.config["vocab_size"] = shape[0]
                else:  # of a model of several parts
                    self.config["text_config"] = {**inner, "vocab_size": shape[0]}
                return


def _is_same_model(origin: str, base: ModelFolder) -> bool:
    """Whether what an adapter calls its base may be the base: the place or the last part of the name is equal."""
    own = {base.label.partition("@")[0], str(base.config.get("_name_or_path") or ""), str(base.folder)}
    if os.path.isdir(origin) and Path(origin).resolve() == base.folder.resolve():  # false where it may not be seen
        return True
    return origin.rstrip("/").rpartition("/")[2].lower() in {
        text.rstrip("/").rpartition("/")[2].lower() for text in own
    }
