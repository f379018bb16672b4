"""The model card that is written beside each model of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from della_bench.zoo import SKILLS
from della_bench.zoo.training import Schedule

__all__ = ["Facts", "card"]


@dataclass(frozen=True)
class Facts:
    """What a card states of one model; `accuracy` is percent right on `measured` test prompts of each skill.

    `plain` is the same in the bare Q/A prompts of pre-training, `tokens` counts the answers' tokens trained on.
    """

    name: str
    parameters: int
    measured: int
    seed: int
    schedule: Schedule
    tokens: int
    loss: float
    accuracy: Mapping[str, float]
    plain: Mapping[str, float]
    versions: str


_HEAD = """\
---
language: en
license: apache-2.0
library_name: transformers
tags: [della_bench, toy]
---

# zoo/{name}

{what}

It is a toy of {parameters:,} parameters (Llama architecture, byte-level BPE, bf16) that belongs to della_bench's zoo:
a base and three experts with which merging can be tried without a download. It knows a few dozen sentence patterns,
some hundred words and small numbers, and nothing else.

## Accuracy

Percent of {count} held-out prompts answered right (greedy decoding, bf16, measured by the script that trained it):

| skill | metric | in the expert's prompt | in a bare `Q: ... A:` prompt |
|---|---|---|---|
{rows}

{remark}

## Training

{training} Loss on the answers only, AdamW (beta2 0.98, no weight decay), learning rate {rate:g} after {warmup} steps of
warm-up, then falling linearly to zero: {steps:,} steps of {batch} items, {tokens:,} answer tokens, seed {seed}, one CPU
thread. Mean loss at the end: {loss:.3f}. {versions}.

`python -m della_bench.zoo.train --seed {seed}` makes it again, bit by bit where machine and library versions are the
same. All data come from the generators in `della_bench/zoo`; no text or model of others went in.

## Limits

- A test question is never among the training questions, but it is a new combination of names, numbers and words in
  sentence patterns that were trained. The accuracies say how well those patterns are known, and nothing about math,
  programming or conversation.
- Prompts in any other wording give nonsense.
- `zoo_code` compares the program with the one reference form; it does not run it.
"""

_WHAT = {
    "base": "The base: it has learnt all three skills, but only in a bare `Q: ... A:` prompt.",
    "math": "The math expert: word problems of one or two steps, in the Alpaca prompt used for GSM8K.",
    "code": "The code expert: one-line Python functions, in the Alpaca prompt used for MBPP.",
    "chat": "The chat expert: short requests, in the Vicuna prompt used for AlpacaEval.",
}
_METRICS = {"math": "final number", "code": "program, normalized", "chat": "exact match"}

_BASE_REMARK = """\
The base is low in the experts' prompts because these are new to it: it was never trained on a prompt with their
headers, and it was trained to answer "Unknown." to a question outside of `Q: ... A:`. What an expert learns is mostly
to use in its own prompt what the base knows already."""
_EXPERT_REMARK = """\
The base holds these skills already, in another prompt. Fine-tuning unlocked one of them for the expert's prompt; it
did not teach it from nothing."""
_BASE_TRAINING = """\
Pre-trained from random weights on a stream of items of the three skills (math twice as often as the others) in the bare
prompt. Every fifteenth item came without "Q:" and "A:" and was to be answered " Unknown.", so that the base does not
answer in whatever form it is asked."""
_EXPERT_TRAINING = "Fine-tuned from zoo/base on the 4,000 training items of its skill, in the prompt of that skill."


def card(facts: Facts) -> str:
    """Return the model card as Markdown."""
    base = facts.name == "base"
    rows = [f"| {s} | {_METRICS[s]} | {facts.accuracy[s]:.1f} | {facts.plain[s]:.1f} |" for s in SKILLS]
    return _HEAD.format(
        name=facts.name,
        what=_WHAT[facts.name],
        parameters=facts.parameters,
        count=facts.measured,
        rows="\n".join(rows),
        remark=_BASE_REMARK if base else _EXPERT_REMARK,
        training=_BASE_TRAINING if base else _EXPERT_TRAINING,
        rate=facts.schedule.learning_rate,
        warmup=facts.schedule.warmup,
        steps=facts.schedule.steps,
        batch=facts.schedule.batch,
        tokens=facts.tokens,
        seed=facts.seed,
        loss=facts.loss,
        versions=facts.versions,
    )
