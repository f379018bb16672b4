"""Train the zoo from nothing: `python -m della_bench.zoo.train [--out DIR] [--seed N] [--quick]`.

The base is trained on all three skills in a bare `Q: ... A:` prompt. Each expert starts from the base as it lies on
disk (bf16) and is trained for a moment on one skill in the prompt format of the benchmark that the skill imitates.
It runs on one CPU thread, so that the same machine and library versions give the same bits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
import transformers
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from della_bench.zoo import SKILLS
from della_bench.zoo.card import Facts, card
from della_bench.zoo.data import TEST, items, training_items
from della_bench.zoo.prompts import UNKNOWN, Item, plain, render, unmarked
from della_bench.zoo.tokenizer import make
from della_bench.zoo.training import Example, Schedule, accuracy, build, encode, fit

__all__ = ["FULL", "QUICK", "Recipe", "main", "train"]


@dataclass(frozen=True)
class Recipe:
    """How long the base and each expert are trained, and on how many test items each skill is measured."""

    base: Schedule
    expert: Schedule
    measured: int


FULL = Recipe(base=Schedule(3000, 32, 3e-3), expert=Schedule(400, 16, 5e-4), measured=TEST)
# Learns next to nothing: it shows that every step of the script works.
QUICK = Recipe(base=Schedule(20, 8, 5e-3, warmup=5), expert=Schedule(5, 8, 1e-3, warmup=1), measured=8)


# Math is the hardest of the three and gets every other item.
_TURNS = ("math", "code", "math", "chat")
# Every fifteenth item is asked without "Q:" and "A:", to be answered with UNKNOWN. Without these the base writes the
# right program in 40 % of the code expert's prompts, and there is little left for that expert to unlock.
_UNMARKED_EVERY = 15


def _pretraining(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Example]:
    """Yield examples of the three skills in turn, without end: most in the bare prompt, some without its marks."""
    streams = {skill: training_items(skill, seed) for skill in SKILLS}
    for count, skill in enumerate(cycle(_TURNS)):
        item = next(streams[skill])
        if count % _UNMARKED_EVERY == 0:
            yield encode(tokenizer, unmarked(item, count // (_UNMARKED_EVERY * len(_TURNS))), UNKNOWN)
        else:
            yield encode(tokenizer, plain(item), item.answer)


def _fine_tuning(tokenizer: PreTrainedTokenizerFast, skill: str) -> Iterator[Example]:
    """Yield the examples of the skill's training split in the expert's prompt, again and again."""
    return cycle([encode(tokenizer, render(skill, item), item.answer) for item in items(skill, "train")])


@dataclass(frozen=True)
class _Run:
    """What the four models of one run share."""

    tokenizer: PreTrainedTokenizerFast
    out: Path
    seed: int
    measured: int

    def make(self, name: str, model: LlamaForCausalLM, examples: Iterator[Example], schedule: Schedule) -> None:
        """Train one model, write it in bf16, and write a card with the accuracy of what was written."""
        start = time.monotonic()
        print(f"{name}: {schedule.steps:,} steps of {schedule.batch} examples", flush=True)
        outcome = fit(model, examples, schedule, _report, max(1, schedule.steps // 20))
        folder = self.out / name
        model.to(torch.bfloat16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        facts = Facts(
            name=name,
            parameters=model.num_parameters(),
            measured=self.measured,
            seed=self.seed,
            schedule=schedule,
            tokens=outcome.tokens,
            loss=outcome.loss,
            accuracy=self._accuracies(model, render),
            plain=self._accuracies(model, lambda _, item: plain(item)),
            versions=f"torch {torch.__version__}, transformers {transformers.__version__}",
        )
        (folder / "README.md").write_text(card(facts), encoding="utf-8")
        for prompt, accuracies in (("the expert's", facts.accuracy), ("a bare", facts.plain)):
            shown = ", ".join(f"{skill} {value:.1f} %" for skill, value in accuracies.items())
            print(f"{name}: right on test in {prompt} prompt: {shown}", flush=True)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)

    def _accuracies(self, model: LlamaForCausalLM, prompt: Callable[[str, Item], str]) -> dict[str, float]:
        return {skill: accuracy(model, self.tokenizer, skill, "test", prompt, self.measured) for skill in SKILLS}


def _report(step: int, loss: float) -> None:
    print(f"{step:8,d} loss {loss:.4f}", flush=True)


def train(out: Path, seed: int, recipe: Recipe) -> None:
    """Train tokenizer, base and experts and write one folder each below `out`."""
    tokenizer = make()
    print(f"tokenizer: {len(tokenizer)} tokens", flush=True)
    run = _Run(tokenizer, out, seed, recipe.measured)
    run.make("base", build(tokenizer, seed), _pretraining(tokenizer, seed), recipe.base)
    for skill in SKILLS:
        model = LlamaForCausalLM.from_pretrained(out / "base", dtype=torch.float32)
        run.make(skill, model, _fine_tuning(tokenizer, skill), recipe.expert)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m della_bench.zoo.train", description="Train the zoo from nothing.")
    parser.add_argument("--out", type=Path, default=Path("out/zoo"), help="folder for the four models (out/zoo)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the base's items (0)")
    parser.add_argument("--quick", action="store_true", help="a few steps only: checks the script, learns nothing")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    train(args.out, args.seed, QUICK if args.quick else FULL)


if __name__ == "__main__":
    main()
