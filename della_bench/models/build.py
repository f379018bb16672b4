"""From a merge to a live transformers model: tensors stream to their device and are adopted without a copy."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from della_bench.checkpoint.differences import some
from della_bench.errors import CheckpointError
from della_bench.merge.config import config_changes, dtype_of
from della_bench.merge.stream import Merge
from della_bench.merge.vocabulary import generation_changes
from della_bench.models.bars import with_bar

if TYPE_CHECKING:
    import transformers

__all__ = ["adapt_config", "build_model", "merged_dtype", "merged_state_dict", "model_class"]

log = logging.getLogger(__name__)


def merged_dtype(merge: Merge) -> torch.dtype:
    """Return the dtype of the merged model: the spec's, else the one that most of the base's weights have."""
    dtype: torch.dtype = getattr(torch, dtype_of(merge))
    return dtype


def merged_state_dict(merge: Merge, device: torch.device | str, *, progress: bool = True) -> dict[str, torch.Tensor]:
    """Return all merged tensors on `device`, by their names in the base's checkpoint."""
    names = with_bar(merge.names, f"Merging by {merge.spec.merge_method}", progress=progress)
    return dict(merge.stream(device, names))


def model_class(config: Any, auto_class: Any, folder: str) -> type[transformers.PreTrainedModel]:
    """Return the concrete class that an Auto class would load for a config, the repository's own code included.

    Only a concrete class takes a state dict in the place of a checkpoint; the Auto classes insist on a path.
    """
    from transformers.dynamic_module_utils import get_class_from_dynamic_module
    from transformers.models.auto import auto_factory

    remote = getattr(config, "auto_map", {}).get(auto_class.__name__)
    if type(config) in auto_class._model_mapping:
        found = auto_factory._get_model_class(config, auto_class._model_mapping)
    elif remote:
        found = get_class_from_dynamic_module(remote, folder)
    else:
        raise CheckpointError(f"{folder}: transformers knows no {auto_class.__name__} for {type(config).__name__}")
    return found  # type: ignore[no-any-return]


def adapt_config(config: Any, merge: Merge) -> Any:
    """Change a config as it was read from the base's folder to the merge's own, in place; return it."""
    for key, value in config_changes(merge).items():
        if value is None:
            if hasattr(config, key):
                delattr(config, key)
        elif isinstance(value, dict):
            for inner, inner_value in value.items():
                setattr(getattr(config, key), inner, inner_value)
        else:
            setattr(config, key, value)
    return config


def build_model(
    merge: Merge,
    config: Any,
    auto_class: Any,
    device: torch.device | str,
    *,
    progress: bool = True,
    **options: Any,
) -> transformers.PreTrainedModel:
    """Merge onto `device` and return the model, in evaluation mode.

    config: the base's. The model gets the base's generation config (penalties, end tokens, sampling defaults), too, as
    it would be read from a written folder. options: further arguments of `from_pretrained` (device_map,
    attn_implementation, ...); below an `offload_folder` each model has a folder of its own, which goes when it does.
    Peak memory is the merged model plus the sources of one tensor.

    Raises CheckpointError when the model has a parameter that no merged tensor fills.
    """
    config = adapt_config(config, merge)
    cls = model_class(config, auto_class, str(merge.base.folder))
    if cls.config_class is type(text := config.get_text_config()):
        config = text  # of a model of several parts, transformers runs the text model alone
    config.name_or_path = merge.spec.display_name
    state = merged_state_dict(merge, device, progress=progress)
    own = ""
    if options.get("offload_folder") is not None:
        # What is kept on the disk is written by its names, which two models have in common.
        own = os.path.join(options["offload_folder"], f"della_merged-{uuid.uuid4().hex}")
        options = {**options, "offload_folder": own}
        state = {**_tied(cls, config, state), **state}
    with _without_report():
        model, info = cls.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=merged_dtype(merge),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
            **options,
        )
    if own:
        weakref.finalize(model, shutil.rmtree, own, ignore_errors=True)
    if mismatched := sorted(info["mismatched_keys"]):
        listed = ", ".join(f"{name} ({list(ours)} for {list(wanted)})" for name, ours, wanted in mismatched)
        raise CheckpointError(f"{merge.base.label}: of other shapes than config.json says: {listed}")
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{merge.base.label}: {cls.__name__} has parameters that the checkpoint lacks: {', '.join(missing)}"
        )
    if unexpected := sorted(info["unexpected_keys"]):
        log.warning("%s: %s has no place for %s: left out", merge.base.label, cls.__name__, some(unexpected))
    if (merge.base.folder / "generation_config.json").is_file():
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig.from_pretrained(merge.base.folder)
        model.generation_config.update(**generation_changes(merge.vocabulary, merge.base))
    model.eval()
    return model


def _tied(cls: type[Any], config: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors that a model ties to others, by their own names.

    Where both lie on the disk, transformers looks for both there.
    """
    tied = getattr(cls, "_tied_weights_keys", None)
    if not isinstance(tied, Mapping) or not getattr(config, "tie_word_embeddings", False):
        return {}
    return {name: state[source] for name, source in tied.items() if source in state}


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from listing the keys that `build_model` tells of itself."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
