"""What a merge survives and a user should know of: each difference between base and expert in one warning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from della_bench.checkpoint.fit import Fit
from della_bench.checkpoint.model import ModelFolder, config_of, model_files, read_json
from della_bench.checkpoint.quantised import quantised_in_name
from della_bench.checkpoint.tokenizers import tokenizer_difference
from della_bench.spec import MergeSpec, Source
from della_bench.spec.templates import Template

__all__ = ["some", "warn_of_fit", "warn_of_source"]

log = logging.getLogger(__name__)

# Keys of config.json that say nothing of what a model computes.
_BOOKKEEPING = frozenset({
    "_name_or_path", "_attn_implementation", "_attn_implementation_autoset", "architectures", "bos_token_id", "dtype",
    "eos_token_id", "model_type", "pad_token_id", "quantization_config", "tie_word_embeddings", "torch_dtype",
    "transformers_version", "unsloth_fixed", "unsloth_version", "use_cache", "vocab_size",
})  # fmt: skip

_NO_GENERATION = frozenset({"_from_model_config", "bos_token_id", "pad_token_id", "transformers_version", "use_cache"})


def some(names: Sequence[str]) -> str:
    """Return how many names there are, with the first three: `2 tensors (a, b)`."""
    listed = ", ".join(names[:3]) + (", ..." if names[3:] else "")
    return f"{len(names)} tensor{'s' if len(names) != 1 else ''} ({listed})"


def warn_of_source(source: ModelFolder) -> None:
    """Warn of what a source's config says and its tensors do not."""
    if method := quantised_in_name(source):
        log.warning(
            "%s: config.json speaks of quantised weights (%s), but they are floats: taken as floats, and the merge is "
            "not quantised",
            source.label,
            method,
        )
    if (source.folder / "adapter_config.json").is_file() and model_files(source.folder):
        log.warning(
            "%s: a LoRA adapter lies beside the whole model: the model is taken without it; in a folder of its own it "
            "can be put on (MODEL::ADAPTER)",
            source.label,
        )


def warn_of_fit(fit: Fit, spec: MergeSpec | None = None) -> None:
    """Warn of each kind of difference between an expert and the base, once each, with what is done about it.

    spec: of the merge; without one, the tokenizer and the chat template are the base's.
    """
    tokenizer = None if spec is None else spec.tokenizer
    base, expert = fit.base, fit.expert
    if lacking := fit.lacking:
        log.warning(
            "%s: lacks %s of the base's, which its language model does not need: the base's are taken",
            expert.label,
            some(lacking),
        )
    if fit.left_out:
        log.warning("%s: has %s that the base's model has no place for: left out", expert.label, some(fit.left_out))
    _warn_of_heads(fit)
    shared = {name: expert.tensors[own] for name, own in fit.names.items() if fit.parameters[name].is_float}
    for name, info in shared.items():
        if info.shape != (shape := fit.parameters[name].shape) and tokenizer is None:
            done = "its extra rows are left out" if info.shape[0] > shape[0] else "the missing rows are the base's"
            log.warning("%s: %s has shape %s, the base's has %s: %s", expert.label, name, info.shape, shape, done)
    notes = []
    dtypes = {
        f"{info.dtype} for {own.dtype}"
        for name, info in shared.items()
        if info.dtype != (own := fit.parameters[name]).dtype
    }
    if dtypes:
        notes.append(f"dtypes ({', '.join(sorted(dtypes))})")
    if values := _config_differences(*_configs(base, expert)):
        notes.append(f"config ({', '.join(values)})")
    if notes:
        log.warning("%s differs from the base in %s; the merge is the base's there", expert.label, " and ".join(notes))
    if ends := _generation_differences(base, expert):
        used = "the base's end tokens and generation config are used"
        if isinstance(tokenizer, Source):
            used = f"the generation config is the base's, the tokenizer's end token is that of {tokenizer}"
        log.warning("%s: generates in another way than the base (%s); %s", expert.label, ", ".join(ends), used)
    if difference := tokenizer_difference(base, expert):
        log.warning("%s: its tokenizer differs from the base's (%s); %s", expert.label, difference, _what_is_done(spec))


def _what_is_done(spec: MergeSpec | None) -> str:
    """Return in words which tokenizer and chat template a merge has, where those of its models differ."""
    if spec is None or (spec.tokenizer is None and spec.chat_template is None):
        return "the base's is used unless tokenizer= or chat_template= names another source"
    keys = spec.as_keys()
    done = ["the base's tokenizer is used"]
    if "tokenizer" in keys:
        done = [f"rows are aligned by the token to those of tokenizer={keys['tokenizer']}"]
    if isinstance(spec.chat_template, Template) and spec.chat_template.text:
        done.append("the chat template is the spec's own")
    elif "chat_template" in keys:
        done.append(f"the chat template is that of chat_template={keys['chat_template']}")
    else:
        done.append("the chat template is that tokenizer's")
    return ", ".join(done)


def _warn_of_heads(fit: Fit) -> None:
    """Tell a head that one side ties to its embedding and the other does not."""
    for head, embedding in fit.heads.items():
        if fit.names.get(head) != fit.names.get(embedding):
            log.warning(
                "%s: has a %s of its own, which %s ties to its embedding: the merge gets one, from the embedding where "
                "there is no other",
                fit.expert.label,
                head,
                fit.base.label,
            )
    first_names: dict[str, str] = {}
    for name, own in fit.names.items():  # in which a head comes after the embedding that it is
        if name not in fit.heads and first_names.setdefault(own, name) != name:
            log.warning(
                "%s: ties %s to its embedding, and %s does not: taken from its embedding",
                fit.expert.label,
                name,
                fit.base.label,
            )


def _config_differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return in words which settings differ, as transformers reads both configs.

    Releases write one setting in several ways (`rope_theta` and `rope_scaling`, or `rope_parameters`), and leave
    defaults out or not. That is no difference.
    """

    def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
        return sorted(key for key in (one.keys() | other.keys()) - _BOOKKEEPING if one.get(key) != other.get(key))

    if differing(ours, theirs):
        ours, theirs = _as_read(ours), _as_read(theirs)
    return [f"{key}: {theirs.get(key)} for {ours.get(key)}" for key in differing(ours, theirs)]


def _as_read(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with all that transformers adds when it reads it; as it is where transformers cannot."""
    from transformers import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        return config
    try:
        read: dict[str, Any] = config_of(config["model_type"], config, *_BOOKKEEPING).to_dict()
        rope = read.pop("rope_parameters", None) or {}
        read |= {key: value for key, value in rope.items() if key != "type"}  # what rope_type was called
    except Exception as error:  # whatever a configuration's own code makes of what it was not written for
        log.debug("transformers cannot read a config: %s: %s", type(error).__name__, error)
        return config
    return read


def _generation_differences(base: ModelFolder, expert: ModelFolder) -> list[str]:
    """Return in words what ends or steers an expert's answers and differs from the base's, where both say it."""
    notes = []
    ours, theirs = _configs(base, expert)
    pairs: list[tuple[str, Any, Any]] = [("eos_token_id", ours.get("eos_token_id"), theirs.get("eos_token_id"))]
    ends = [source.tokenizer_config.get("eos_token") for source in (base, expert)]
    plain = [end.get("content") if isinstance(end, dict) else end for end in ends]
    pairs.append(("eos_token", plain[0], plain[1]))
    notes += [f"{key}: {their} for {our}" for key, our, their in pairs if our and their and our != their]
    if (expert.folder / "generation_config.json").is_file():
        our_settings, their_settings = _generation_config(base), _generation_config(expert)
        notes += [
            f"generation config's {key}: {their_settings.get(key)} for {our_settings.get(key)}"
            for key in sorted((our_settings.keys() | their_settings.keys()) - _NO_GENERATION)
            if (our_settings.get(key) or None) != (their_settings.get(key) or None)  # false is what none means
        ]
    return notes


def _generation_config(source: ModelFolder) -> dict[str, Any]:
    """Return a source's generation config; where it has none, transformers makes one of its config."""
    path = source.folder / "generation_config.json"
    if path.is_file():
        return read_json(path, source.label)
    end = source.config.get("eos_token_id")
    return {} if end is None else {"eos_token_id": end}


def _configs(base: ModelFolder, expert: ModelFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both configs; of a model of several parts its text's, where the other is of text alone."""
    ours, theirs = base.config, expert.config
    if base.model_type != expert.model_type:
        ours, theirs = ours.get("text_config") or ours, theirs.get("text_config") or theirs
    return ours, theirs
