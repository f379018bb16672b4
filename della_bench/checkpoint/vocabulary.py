"""The vocabulary of a merge: one tokenizer made of its models', and the layout of its rows.

What `base`, `union` and a model mean is mergekit's (`mergekit.tokenizer.build`, 0.1.5). mergekit takes models in the
order of a set, which differs from process to process; here the base comes first, then the experts in the spec's order,
and new tokens in the order of their ids.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.canonical import EMBEDDING, vocab_size
from della_bench.checkpoint.layout import Layout, TokenLists, lay_out
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.resolve import resolve
from della_bench.checkpoint.token_lists import fast_tokenizer, stripped, united
from della_bench.checkpoint.tokenizers import has_tokenizer
from della_bench.errors import CheckpointError
from della_bench.jsonfiles import write_json
from della_bench.spec import MergeSpec, Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Vocabulary", "row_count"]

log = logging.getLogger(__name__)


class Vocabulary:
    """What the spec's `tokenizer`, `tokens` and `pad_to_multiple_of` make of a merge's models; reads no weights.

    `tokenizer` is the merge's own, `layout` says which row of which model each of its tokens has.
    """

    tokenizer: PreTrainedTokenizerBase
    layout: Layout

    def __init__(
        self, spec: MergeSpec, models: Mapping[Source, ModelFolder], *, trust_remote_code: bool = False
    ) -> None:
        """Build the tokenizer. models: the opened base and experts.

        Raises CheckpointError that lists every fault: a tokenizer that is missing or has no fast form, a row that is to
        come from a model which lacks the token.
        """
        self._remote = trust_remote_code
        base, other = models[spec.base], spec.tokenizer if isinstance(spec.tokenizer, Source) else None
        faults: list[str] = []
        tokenizers = self._tokenizers(base, list(dict.fromkeys(models.values())), faults)
        folder, named = base.tokenizer_folder, None
        if other is not None:
            folder = _tokenizer_folder(other, models, faults)
            named = fast_tokenizer(folder, str(other), faults, trust_remote_code=trust_remote_code)
        if faults:
            raise CheckpointError("\n".join(dict.fromkeys(faults)))
        lists = TokenLists(
            {model: dict(made.get_vocab()) for model, made in tokenizers.items()},
            {model: row_count(model) for model in tokenizers},
        )
        self._base_ids = lists.ids[base]
        self._model_type = base.config.get("model_type")
        whole = stripped(tokenizers[base], lists.rows[base], base.label, trust_remote_code=trust_remote_code)
        if spec.tokenizer == "union":
            listed = [(made, lists.rows[model]) for model, made in tokenizers.items()]
            self.tokenizer = united(whole, listed, trust_remote_code=trust_remote_code)
        else:
            self.tokenizer = named or whole
        known = self.tokenizer.get_vocab()
        new = [row.token for row in spec.tokens if row.token not in known]
        if new:
            self.tokenizer.add_tokens(new)
        self._made = bool(new) or all(self.tokenizer is not one for one in (named, tokenizers[base]))
        self._folder: Path | None = None if self._made else folder
        self.layout = lay_out(self.tokenizer.get_vocab(), lists, spec.tokens, models, spec.pad_to_multiple_of or 1)

    def _tokenizers(
        self, base: ModelFolder, models: list[ModelFolder], faults: list[str]
    ) -> dict[ModelFolder, PreTrainedTokenizerBase]:
        """Return the models' tokenizers, the base's first; a model without one has the base's."""
        made: dict[ModelFolder, PreTrainedTokenizerBase] = {}
        for model in models:
            if model is not base and not has_tokenizer(model.tokenizer_folder):
                log.warning("%s: has no tokenizer of its own: taken to have the base's", model.label)
                found = made.get(base)
            else:
                found = fast_tokenizer(model.tokenizer_folder, model.label, faults, trust_remote_code=self._remote)
            if found is not None:
                made[model] = found
        return made

    @property
    def size(self) -> int:
        """How many rows embedding and head have, padding included."""
        return self.layout.size

    @property
    def is_made(self) -> bool:
        """Whether the tokenizer is none of a source's, so that its folder is a temporary one."""
        return self._made

    @property
    def folder(self) -> Path:
        """A folder with the tokenizer's files: a source's own, or a temporary one that goes with this object."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="della_bench_tokenizer_"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self.tokenizer.save_pretrained(self._folder)
            # vLLM looks up here which model a tokenizer is of, and logs an error where it cannot.
            write_json(self._folder / "config.json", {"model_type": self._model_type})
        return self._folder

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the tokenizer and all rows: equal ones make the same of the same models."""
        places = {model: place for place, model in enumerate(self.layout.rows)}
        rows = [own.tolist() for own in self.layout.rows.values()]
        fills = [[f.ids.tolist(), [places[m] for m in f.models], f.rows.tolist()] for f in self.layout.fills]
        return hashlib.sha256(json.dumps([self.tokenizer_digest, rows, fills]).encode()).hexdigest()

    @cached_property
    def tokenizer_digest(self) -> str:
        """SHA-256 (hex) over what the tokenizer makes of a text, and the number of rows."""
        special = {key: str(token) for key, token in self.tokenizer.special_tokens_map.items()}
        text = json.dumps([self.tokenizer.backend_tokenizer.to_str(), special, self.size], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def moved_ids(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a config's settings that name tokens of the base (`eos_token_id`) which have another id here.

        Where none of them is there any more, it is the tokenizer's own token of this kind, if it has one.
        """
        names = {i: token for token, i in self._base_ids.items()}
        vocab = self.tokenizer.get_vocab()
        changes: dict[str, Any] = {}
        for key, value in settings.items():
            if not key.endswith("_token_id") or value is None or isinstance(value, bool):
                continue
            old = value if isinstance(value, list) else [value]
            kept = [vocab[names[i]] for i in old if names.get(i) in vocab]
            if not kept and (own := getattr(self.tokenizer, key, None)) is not None:
                kept = [own]
            if kept and (new := kept if isinstance(value, list) else kept[0]) != value:
                changes[key] = new
        return changes


def _tokenizer_folder(source: Source, models: Mapping[Source, ModelFolder], faults: list[str]) -> Path:
    if source in models:
        return models[source].tokenizer_folder
    if source.scheme == "merge" and isinstance(MergeSpec.parse(source.place).tokenizer, str):
        faults.append(f"tokenizer={source}: a merge with a tokenizer of its own making, and no model of this merge")
    return resolve(source, weights=False)


def row_count(model: ModelFolder) -> int:
    """Return how many rows a model's embedding has; where several tensors may be it, as many as the config says."""
    said = vocab_size(model.config)
    there = [info.shape[0] for name, info in model.tensors.items() if EMBEDDING.search(name) and info.shape]
    if said is not None and (said in there or not there):
        return said
    return there[0] if there else 0
