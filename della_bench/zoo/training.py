"""The training loop of the zoo: encode, batch, fit, and measure by greedy decoding."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from della_bench.zoo.data import items
from della_bench.zoo.prompts import Item, render
from della_bench.zoo.scoring import is_right

__all__ = ["Example", "Outcome", "Schedule", "accuracy", "answers", "build", "encode", "fit"]

CONTEXT = 4096
_IGNORED = -100
# The longest answers are 24 tokens (math), 26 (code) and 21 (chat), the end token included.
NEW_TOKENS = {"math": 32, "code": 40, "chat": 24}


@dataclass(frozen=True)
class Example:
    """Token ids of one prompt and of its answer, which ends in the end token."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class Schedule:
    """How one model is trained: `steps` batches of `batch` examples, learning rate falling linearly to 0."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 50


@dataclass(frozen=True)
class Outcome:
    """What a training run came to: the mean loss at its end and the number of answer tokens it saw."""

    loss: float
    tokens: int


def build(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return an untrained model; the global random state is left as it was."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.06,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> Example:
    """Tokenize prompt and answer apart, as they are at evaluation, and end the answer."""
    return Example(tokenizer.encode(prompt), [*tokenizer.encode(answer), tokenizer.eos_token_id])


def _batches(examples: Iterator[Example], size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ids and labels, each (size, T), padded on the right.

    Examples are taken 16 batches at a time and sorted by length, so that little is padding. No attention mask is
    needed: in a causal model nothing looks at what comes after it.
    """
    rng = random.Random(0)
    while pool := sorted(islice(examples, 16 * size), key=lambda e: len(e.prompt) + len(e.answer)):
        chunks = [pool[i : i + size] for i in range(0, len(pool), size)]
        while chunks:
            chunk = chunks.pop(int(rng.random() * len(chunks)))
            length = max(len(e.prompt) + len(e.answer) for e in chunk)
            ids = torch.zeros(len(chunk), length, dtype=torch.long)
            labels = torch.full((len(chunk), length), _IGNORED)
            for row, e in enumerate(chunk):
                end = len(e.prompt) + len(e.answer)
                ids[row, :end] = torch.tensor(e.prompt + e.answer)
                labels[row, len(e.prompt) : end] = torch.tensor(e.answer)
            yield ids, labels


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of the answers' tokens; logits are computed at their places only."""
    targets = labels[:, 1:]  # (B, T - 1)
    counted = targets != _IGNORED
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, T - 1, hidden)
    return cross_entropy(model.lm_head(hidden[counted]), targets[counted])


def fit(
    model: LlamaForCausalLM,
    examples: Iterator[Example],
    schedule: Schedule,
    report: Callable[[int, float], None] = lambda step, loss: None,
    every: int = 100,
) -> Outcome:
    """Train the model in place; the outcome's loss is the mean of the last `every` steps.

    The loss counts answers only. AdamW with beta2 0.98, no weight decay, gradients clipped to norm 1.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    slope = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / schedule.warmup, (schedule.steps - step) / max(1, schedule.steps)),
    )
    model.train()
    recent: list[float] = []
    tokens = 0
    for step, (ids, labels) in enumerate(islice(_batches(examples, schedule.batch), schedule.steps), start=1):
        loss = _loss(model, ids, labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        slope.step()
        tokens += int((labels != _IGNORED).sum())
        recent = [*recent[-every + 1 :], loss.item()]
        if step % every == 0:
            report(step, sum(recent) / len(recent))
    model.eval()
    return Outcome(sum(recent) / len(recent) if recent else math.nan, tokens)


@torch.inference_mode()
def answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], new_tokens: int
) -> list[str]:
    """Return the model's greedy answer to each prompt, cut at the end token."""
    batch = tokenizer(list(prompts), return_tensors="pt", padding=True)
    length = batch["input_ids"].shape[1]
    output = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    texts: list[str] = tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
    return texts


def accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    skill: str,
    split: str,
    prompt: Callable[[str, Item], str] = render,
    limit: int | None = None,
) -> float:
    """Return the share, in percent, of the split's (first `limit`) items that the model answers right."""
    asked = items(skill, split)[:limit]
    replies = answers(model, tokenizer, [prompt(skill, item) for item in asked], NEW_TOKENS[skill])
    return 100 * sum(is_right(skill, item, reply) for item, reply in zip(asked, replies, strict=True)) / len(asked)
