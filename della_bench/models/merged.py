"""What the model types of all engines share: a merge that can be exchanged, and what the merge tells lm-eval."""

from __future__ import annotations

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import della_bench
from della_bench.checkpoint.tokenizers import check_vocabulary, have_same_vocabulary
from della_bench.errors import MergeError, SpecError
from della_bench.merge.config import config_changes, dtype_of
from della_bench.merge.fingerprint import Inputs
from della_bench.merge.stream import Merge
from della_bench.merge.templates import ChosenTemplate, chosen_template
from della_bench.merge.vocabulary import row_count_of, vocabulary_changes
from della_bench.models.arguments import beside, doubled_names
from della_bench.models.output_name import name_output
from della_bench.models.templates import check_chat_template
from della_bench.packages import installed_version
from della_bench.scoring.guard import check_before_merging
from della_bench.spec import MergeSpec
from della_bench.spec.vocabulary import tokenizer_text

if TYPE_CHECKING:
    from lm_eval.api.model import CacheHook

__all__ = ["MergedModel", "check_same_model"]

log = logging.getLogger(__name__)


class MergedModel:
    """Goes before one of lm-eval's model types among a class's bases.

    The class calls `_begin` before lm-eval's own `__init__`, and implements `_load_merge`, which takes a merge into the
    running engine.
    """

    engine: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("lm_eval", "torch", "transformers", "safetensors")
    spec: MergeSpec
    merge: Merge
    tokenizer: Any
    chat_template_chosen: ChosenTemplate
    _answer_options: Mapping[str, Any]
    _remote: bool
    _unusable = ""

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Any:
        """Create from `key=value,...`; a key given twice is an error, where lm-eval would take the last."""
        from lm_eval.utils import simple_parse_args_string

        if faults := doubled_names(arg_string):
            raise SpecError(faults)
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Any:
        """Create from a mapping, as lm-eval's command line does; what stands in it goes before lm-eval's settings."""
        return super().create_from_arg_obj(arg_dict, beside(arg_dict, additional_config))  # type: ignore[misc]

    def _begin(self, spec: MergeSpec, options: Mapping[str, Any], speed_only: frozenset[str]) -> None:
        """Open the sources. `speed_only` names options that change how fast an answer comes, not which.

        Raises SpecError where lm-eval is about to run generated programs and nobody has allowed it, or to apply a chat
        template that is not there.
        """
        check_before_merging()
        name_output()
        self.spec = spec
        self._remote = bool(options.get("trust_remote_code"))
        self.merge = Merge(spec, trust_remote_code=self._remote)
        check_chat_template(self.merge)
        self._inputs = Inputs(self.merge)
        self._answer_options = {key: value for key, value in sorted(options.items()) if key not in speed_only}

    def remerge(self, spec: str | PathLike[str] | Mapping[str, Any] | MergeSpec, /, **keys: Any) -> None:
        """Take another merge of the same base into the running engine; arguments as of `MergeSpec.parse`.

        Afterwards name, info, fingerprint and the response cache's key are those of the new spec.

        Raises SpecError or CheckpointError where the new merge does not fit this engine: the old one stays in place
        and can be used. Any error after that, while weights are exchanged, leaves the model unusable until a remerge
        succeeds: whatever asks it raises MergeError with the reason.
        """
        new = MergeSpec.parse(spec, **keys)
        merge = Merge(new, trust_remote_code=self._remote)
        check_same_model(self.merge, merge)
        template = chosen_template(merge, lambda: self._own_chat_template)
        log.info("merging %s", new)
        self._unusable = f"the merge {new} was not loaded to its end"
        try:
            self._load_merge(merge)
        except BaseException as error:
            self._unusable = f"loading the merge {new} failed: {error or type(error).__name__}"
            raise
        if template != self.chat_template_chosen:
            self._take_template(template)
        self.spec, self.merge, self._inputs, self._unusable = new, merge, Inputs(merge), ""

    @abstractmethod
    def _load_merge(self, merge: Merge) -> None:
        """Overwrite the engine's weights with a merge that `check_same_model` has let through."""

    def _require_usable(self) -> None:
        if self._unusable:
            raise MergeError(f"no merge is loaded: {self._unusable}; remerge with another spec, or start anew")

    def loglikelihood(self, *args: Any, **options: Any) -> Any:
        """Do what lm-eval's model type does; raises MergeError after a remerge that failed."""
        self._require_usable()
        return super().loglikelihood(*args, **options)  # type: ignore[misc]

    def loglikelihood_rolling(self, *args: Any, **options: Any) -> Any:
        """Do what lm-eval's model type does; raises MergeError after a remerge that failed."""
        self._require_usable()
        return super().loglikelihood_rolling(*args, **options)  # type: ignore[misc]

    def generate_until(self, *args: Any, **options: Any) -> Any:
        """Do what lm-eval's model type does; raises MergeError after a remerge that failed."""
        self._require_usable()
        return super().generate_until(*args, **options)  # type: ignore[misc]

    def _take_template(self, template: ChosenTemplate) -> None:
        """Give the tokenizer a chat template, and say whose it is."""
        self.chat_template_chosen = template
        if template.content != self.tokenizer.chat_template:
            self._set_chat_template(template.content)
        log.info("chat template: %s", template)

    def _set_chat_template(self, template: Any) -> None:
        self.tokenizer.chat_template = template

    def _finish_tokenizer(self) -> None:
        """Check the tokenizer that lm-eval has loaded, and give it the spec's chat template."""
        self._own_chat_template = self.tokenizer.chat_template
        self._take_template(chosen_template(self.merge, lambda: self._own_chat_template))
        check_vocabulary(self.spec, self.tokenizer, row_count_of(self.merge.base, self.merge.vocabulary))

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the template that lm-eval chooses, and ask through it, also where it is one of several by name.

        lm-eval's transformers model type takes a tokenizer's default one whatever it has logged.
        """
        text: str | None = super().chat_template(chat_template)  # type: ignore[misc]
        self._ask_through(text if isinstance(chat_template, str) else None, text)
        return text

    @abstractmethod
    def _ask_through(self, named: str | None, chosen: str | None) -> None:
        """Render prompts by the template `chosen`; `named` is the same, or None where it is the default one."""

    @property
    @abstractmethod
    def _facts(self) -> Mapping[str, Any]:
        """What beside the merge, the tokenizer and the arguments decides the answers: dtype, device."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the merge (by its files' contents) and every argument that can change an answer.

        Waits for the input files' digests. Raises MergeError after a remerge that failed: then nobody knows what the
        model is; DataError where an input file has changed while it was read.
        """
        self._require_usable()
        facts = {
            "merge": self._inputs.fingerprint,
            "engine": self.engine,
            **self._facts,
            "tokenizer": [self._template_digest, self._tokenizer_digest],
            "arguments": self._answer_options,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def _tokenizer_digest(self) -> str:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        text = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's source and, by its digest, its chat template: lm-eval's caches are keyed by it."""
        source = str(self.spec.base if self.spec.tokenizer is None else tokenizer_text(self.spec.tokenizer))
        return f"{source}#{self._template_digest[:12]}".replace("/", "__")

    @property
    def _template_digest(self) -> str:
        template = json.dumps(self.tokenizer.chat_template, sort_keys=True)
        return hashlib.sha256(template.encode()).hexdigest()

    @property
    def output_name(self) -> str:
        """What lm-eval calls the folder of the results: the name of the merge in the engine, and its digest."""
        return self.spec.file_name

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Make lm-eval's response cache safe across merges: it keys a response by the request alone."""
        super().set_cache_hook(cache_hook)  # type: ignore[misc]
        if cache_hook.dbdict is not None:
            encode: Callable[[str], str] = lambda key: f"{self.fingerprint}:{key}"  # noqa: E731
            cache_hook.dbdict.encode_key = encode

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes into its results: the spec, its digest, the sources and library versions.

        `model_fingerprint` names the model, whatever runs it; `fingerprint` keys the response cache, and depends on the
        engine and its arguments, too. Neither depends on where the files lie. Raises DataError where an input file has
        changed while it was read.
        """
        return {
            "model_dtype": str(self._facts["dtype"]),
            "model_revision": self.spec.digest[:12],
            "model_sha": self.spec.digest,
            "della_bench": {
                "version": della_bench.__version__,
                "name": self.spec.display_name,
                "spec": str(self.spec),
                "digest": self.spec.digest,
                "keys": self.spec.as_keys(effective=True),
                "chat_template": str(self.chat_template_chosen),
                "sources": {source.label: str(source.folder) for source in self.merge.sources},
                "fingerprint": self.fingerprint,
                "model_fingerprint": self._inputs.fingerprint,
                "engine": self.engine,
                "versions": {package: installed_version(package) for package in self.packages},
            },
        }


def check_same_model(old: Merge, new: Merge) -> None:
    """Raise SpecError with all reasons for which `new` cannot take the place of `old` in a running engine.

    Config, tokenizer and dtype are settled when the engine starts.
    """
    faults = []
    if old.base.folder.resolve() != new.base.folder.resolve():
        faults.append(f"base={new.spec.base}: the engine runs base={old.spec.base}; another base needs a new engine")
    elif (had := dtype_of(old)) != (asked := dtype_of(new)):
        faults.append(f"dtype={asked}: the engine runs in {had}; another dtype needs a new engine")
    else:
        faults += _shape_faults(old, new)
    faults += _vocabulary_faults(old, new)
    if not faults and [(n, old.info(n).shape) for n in old.names] != [(n, new.info(n).shape) for n in new.names]:
        faults.append(f"base={new.spec.base}: its tensors have other names or shapes than when the engine started")
    if faults:
        raise SpecError(faults)


def _shape_faults(old: Merge, new: Merge) -> list[str]:
    """Return why a merge of the same base has another config than the engine, but for its vocabulary."""
    settled = [vocabulary_changes(merge.vocabulary, merge.base.config) for merge in (old, new)]
    stands, wanted = config_changes(old), config_changes(new)
    keys = [
        key
        for key in {**stands, **wanted}
        if stands.get(key) != wanted.get(key) and not any(key in changes for changes in settled)
    ]
    if not keys:
        return []
    told = ", ".join(f"{key} {_short(wanted, key, new)} for {_short(stands, key, old)}" for key in keys)
    what = f"slices={'/'.join(new.spec.as_keys()['slices'])}" if new.spec.slices else f"base={new.spec.base}"
    return [f"{what}: the engine runs a model of another shape ({told}); another shape needs a new engine"]


def _vocabulary_faults(old: Merge, new: Merge) -> list[str]:
    """Return why a merge has another vocabulary than the engine, where it has."""
    had, asked = old.vocabulary, new.vocabulary
    if had is None and asked is None:
        if have_same_vocabulary(old.base, new.base):
            return []
        return [f"base={new.spec.base}: has another tokenizer than the engine runs; another one needs a new engine"]
    if had is not None and asked is not None and had.tokenizer_digest == asked.tokenizer_digest:
        return []

    def told(merge: Merge) -> str:
        choice = merge.spec.tokenizer
        return "the base's own tokenizer" if choice is None else f"tokenizer={tokenizer_text(choice)}"

    sizes = [None if one is None else one.size for one in (had, asked)]
    rows = f" ({sizes[1]} rows, not {sizes[0]})" if None not in sizes and sizes[0] != sizes[1] else ""
    return [f"{told(new)}{rows}: the engine runs {told(old)}; another one needs a new engine"]


def _short(changes: Mapping[str, Any], key: str, merge: Merge) -> str:
    """Return what a merge's config says of a key, a list of its layers as dots."""
    value = changes.get(key, merge.base.config.get(key))
    return "[...]" if isinstance(value, (list, dict)) else str(value)
