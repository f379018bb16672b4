"""The zoo's tokenizer: byte-level BPE, trained on the zoo's own texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from della_bench.zoo import SKILLS
from della_bench.zoo.data import training_items
from della_bench.zoo.prompts import UNKNOWN, plain, render

__all__ = ["VOCABULARY", "make"]

VOCABULARY = 1024
CONTEXT = 4096
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def _texts(items_per_skill: int) -> Iterator[str]:
    for skill in SKILLS:
        for item in islice(training_items(skill), items_per_skill):
            yield plain(item) + item.answer + UNKNOWN
            yield render(skill, item) + item.answer


def make(items_per_skill: int = 4000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on prompts and answers of the training split.

    It adds no special token by itself, so a prompt has the same ids in training, in lm-eval and in vLLM. Every byte
    is in the vocabulary: decoding gives back any text exactly.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(items_per_skill), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
