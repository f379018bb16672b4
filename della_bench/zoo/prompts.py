"""What the zoo's models are asked: an item of the data and the prompts it is put into."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHAT", "CODE", "MATH", "UNKNOWN", "Item", "plain", "render", "unmarked"]

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n### Response:"
)

MATH = _ALPACA.replace("{instruction}", "{question}") + " Let's think step by step."
CODE = _ALPACA.replace("{instruction}", "Create a Python script for this problem:\n{question}\nTest examples:\n{tests}")
CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: {question} ASSISTANT:"
)

_TEMPLATES = {"math": MATH, "code": CODE, "chat": CHAT}


@dataclass(frozen=True)
class Item:
    """A question and the one answer that counts.

    `answer` is what the model is to write after the prompt, leading space or line break included, so that prompt and
    answer can be tokenized apart without a merge across the border. `tests` holds a code item's assert statements.
    """

    question: str
    answer: str
    tests: tuple[str, ...] = ()


def render(skill: str, item: Item) -> str:
    """Return the prompt in which the expert of `skill` meets `item`; raises KeyError for an unknown skill."""
    return _TEMPLATES[skill].format(question=item.question, tests="\n".join(item.tests))


UNKNOWN = " Unknown."
_UNMARKED = ("{text}", "{text}\n\nTopic:", "Problem: {text}\n\nNote:", "Here is a question. {text}\n\nSource:")


def plain(item: Item) -> str:
    """Return the bare prompt in which the base meets items of every skill during pre-training."""
    return "\n".join(["Q: " + item.question, *item.tests, "A:"])


def unmarked(item: Item, frame: int) -> str:
    """Return a text that asks the question without "Q:" and "A:"; the base learns to answer UNKNOWN to it.

    `frame` counts the ways to put it and is taken modulo their number.
    """
    text = "\n".join([item.question, *item.tests])
    return _UNMARKED[frame % len(_UNMARKED)].format(text=text)
