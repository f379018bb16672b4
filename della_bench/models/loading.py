"""A merge as a transformers model and its tokenizer, for one's own code."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.tokenizers import check_vocabulary, load_tokenizer
from della_bench.devices import require_device
from della_bench.merge.stream import Merge
from della_bench.merge.templates import chosen_template
from della_bench.merge.vocabulary import row_count_of
from della_bench.models.build import adapt_config, build_model
from della_bench.spec import MergeSpec

if TYPE_CHECKING:
    import torch
    import transformers

__all__ = ["load_merged"]


def load_merged(
    spec: str | PathLike[str] | Mapping[str, Any] | MergeSpec,
    /,
    *,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    progress: bool = True,
    **options: Any,
) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """Merge in memory and return (model, tokenizer), as if both had been loaded from a merged checkpoint.

    spec: any form that `MergeSpec.parse` takes. device: where the merge is computed and the model stays. options:
    further arguments of transformers' `from_pretrained` (attn_implementation, ...). The model is in evaluation mode and
    has the base's generation config. Nothing is written to disk.

    Raises UsageError (no such device), SpecError, CheckpointError or MergeError: with all faults of the spec and all
    mismatches of the sources before any weight is read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    require_device(device)
    spec = MergeSpec.parse(spec)
    merge = Merge(spec, trust_remote_code=trust_remote_code)
    folder = merge.base.folder
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(merge.tokenizer_folder, trust_remote_code=trust_remote_code)
    if spec.chat_template is not None:
        tokenizer.chat_template = chosen_template(merge).content
    config = adapt_config(config, merge)
    check_vocabulary(spec, tokenizer, row_count_of(merge.base, merge.vocabulary))
    model = build_model(merge, config, AutoModelForCausalLM, device, progress=progress, **options)
    return model, tokenizer
