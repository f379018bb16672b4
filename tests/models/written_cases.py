"""Merges whose bases hold what a written folder has to keep, and how many answers of an engine are those on the folder.

`python -m tests.models.written_cases vllm [CASE ...]` prints how many of 40 greedy answers are equal: those of the live
merge and those of the engine's own model type on the folder that the merge writes.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.hf import DellaMergedLM
from della_bench.spec import MergeSpec
from tests import families, tiny
from tests.models.lm import ask

__all__ = ["CASES", "PROMPTS", "VLLM_OPTIONS", "Keys", "answers_of", "equal_answers"]

Keys = dict[str, Any]
PROMPTS = [f"Tom has {number} apples and buys {number + 3} more. How many has he?" for number in range(40)]
CHAT = [{"role": "user", "content": "Hello"}]
VLLM_OPTIONS = {"enforce_eager": True, "max_model_len": 256, "gpu_memory_utilization": 0.2}
TEMPLATE = "{% for message in messages %}<{{ message.role }}> {{ message.content }}{% endfor %}"
# Sizes that vLLM's attention on the CPU has kernels for, and weights so wide that each prompt has its own answer.
_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "head_dim": 32,
    "tie_word_embeddings": False,
    "initializer_range": 0.1,
}
_SIGHT = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def _save(family: str, folder: Path, tokenizer: Callable[[Path], Any], **options: Any) -> Keys:
    """Write a base and a fine-tune of it; `tokenizer` writes one into a folder, and returns how many ids it has."""
    rows = tokenizer(folder / "base")
    base = families.model(family, vocab_size=rows, **_SIZES | options)
    base.save_pretrained(folder / "base")
    tiny.perturbed(base, 1, scale=0.05).save_pretrained(folder / "expert")
    tokenizer(folder / "expert")
    return {
        "base": str(folder / "base"), "experts": str(folder / "expert"), "merge_method": "della", "density": 0.7,
        "epsilon": 0.2, "dtype": "float32",
    }  # fmt: skip


def _bytes(folder: Path, *extra: str) -> int:
    made = tiny.tokenizer(extra)
    made.save_pretrained(folder)
    return len(made)


def _pieces(folder: Path) -> int:
    """Write a tokenizer of sentencepiece, trained on the prompts, as Llama 2 has it: no tokenizer.json."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(PROMPTS), model_writer=model, vocab_size=340, model_type="bpe", byte_fallback=True,
        minloglevel=2,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "pad_token": "</s>", "add_bos_token": True, "legacy": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return 340


def sentencepiece(folder: Path) -> Keys:
    """A tokenizer that is a sentencepiece model alone."""
    return _save("llama", folder, _pieces)


def settings(folder: Path, tokenizer: Callable[[Path], int] = _bytes, family: str = "llama") -> Keys:
    """A penalty, two end tokens, and a chat template in a file of its own."""
    keys = _save(family, folder, tokenizer)
    ends = {"eos_token_id": [1, 40], "repetition_penalty": 1.3, "bos_token_id": 0}
    (folder / "base" / "generation_config.json").write_text(json.dumps(ends))
    (folder / "base" / "chat_template.jinja").write_text(TEMPLATE)
    return keys


def composite(folder: Path) -> Keys:
    """A model of several parts, of which text is asked, with the files of its image processor."""
    from transformers import Gemma3ImageProcessor, Gemma3Processor

    def sight(place: Path) -> int:
        inner = tiny.tokenizer(tuple(_SIGHT.values()))
        made = PreTrainedTokenizerFast(
            tokenizer_object=inner._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>",
            extra_special_tokens=_SIGHT,
        )  # fmt: skip
        images = Gemma3ImageProcessor(size={"height": 8, "width": 8})
        Gemma3Processor(images, made, image_seq_length=4).save_pretrained(place)
        return len(made)

    # Gemma scales its embedding up: with weights as wide as the others' it repeats one token to any prompt.
    keys = _save("gemma3", folder, sight, initializer_range=0.02)
    ids = {"boi_token_index": 259, "eoi_token_index": 260, "image_token_index": 261}
    for place in ("base", "expert"):
        families.edit_config(folder / place, **ids)
    return keys


def _with_mtp(keys: Keys) -> Keys:
    """Add the layer that predicts a second token, numbered after the others as DeepSeek and GLM do."""
    for place, value in (("base", 0.25), ("experts", 0.5)):

        def add(tensors: dict[str, torch.Tensor], value: float = value) -> dict[str, torch.Tensor]:
            last = {
                name.replace("layers.1.", "layers.2."): t.clone() for name, t in tensors.items() if "layers.1." in name
            }
            own = {"eh_proj.weight": (64, 128), "enorm.weight": (64,), "hnorm.weight": (64,),
                   "shared_head.norm.weight": (64,)}  # fmt: skip
            return tensors | last | {f"model.layers.2.{name}": torch.full(shape, value) for name, shape in own.items()}

        families.edit_tensors(Path(keys[place]), add)
    return keys


def mixture(folder: Path) -> Keys:
    """A mixture of experts with a layer of multi-token prediction."""
    return _with_mtp(_save("glm4_moe", folder, _pieces))


def union(folder: Path) -> Keys:
    """Special tokens that only the expert has, by a union of both vocabularies."""
    keys = _save("llama", folder, _bytes)
    tiny.save(
        tiny.perturbed(families.model("llama", seed=0, vocab_size=261, **_SIZES), 2, scale=0.05),
        folder / "expert", tiny.tokenizer(("<|one|>", "<|two|>")),
    )  # fmt: skip
    return keys | {"tokenizer": "union", "pad_to_multiple_of": 8}


def everything(folder: Path) -> Keys:
    """All of it in one model: a mixture with such a layer, sentencepiece, a penalty, two end tokens and a template."""
    return _with_mtp(settings(folder, _pieces, "glm4_moe"))


CASES: dict[str, Callable[[Path], Keys]] = {
    case.__name__: case for case in (settings, sentencepiece, composite, mixture, union, everything)
}


def answers_of(lm: Any, *, shut: bool = False) -> list[str]:
    """Return a model's greedy answers to the prompts, and its chat prompt last where it has a template."""
    try:
        chat = [lm.apply_chat_template(CHAT)] if lm.tokenizer.chat_template else []
        return [*ask(lm, *PROMPTS, tokens=24), *chat]
    finally:
        if shut:
            lm.model.llm_engine.engine_core.shutdown()


def equal_answers(engine: str, case: str, folder: Path) -> tuple[int, list[str]]:
    """Return how many of the 40 answers of a live merge are those on its folder, and the live ones.

    Counts as none where the chat prompts differ.
    """
    keys = CASES[case](folder)
    written = write_folder(Merge(MergeSpec.parse(keys)), folder / "written", progress=False)
    if engine == "vllm":
        from lm_eval.models.vllm_causallms import VLLM

        ours = answers_of(DellaMergedLM(engine="vllm", **keys, **VLLM_OPTIONS), shut=True)
        theirs = answers_of(VLLM(pretrained=str(written), dtype="float32", **VLLM_OPTIONS), shut=True)
    else:
        from lm_eval.models.huggingface import HFLM

        ours = answers_of(DellaMergedLM(**keys, batch_size=20))
        theirs = answers_of(HFLM(pretrained=str(written), device="cpu", dtype="float32", batch_size=20))
    if len(ours) != len(theirs) or ours[40:] != theirs[40:]:
        return 0, ours
    return sum(one == other for one, other in zip(ours[:40], theirs[:40], strict=True)), ours[:40]


if __name__ == "__main__":
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}
    for name in sys.argv[2:] or CASES:
        with tempfile.TemporaryDirectory() as place:
            equal, answers = equal_answers(sys.argv[1], name, Path(place))
            print(
                f"{sys.argv[1]} {name}: {equal} of {len(PROMPTS)} equal, {len(set(answers))} different ones", flush=True
            )
