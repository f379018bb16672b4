"""What a reasoning model thinks aloud before it answers: `<think>...</think>` and what other models write for it."""

from __future__ import annotations

import re

__all__ = ["THOUGHT_BEGINS", "THOUGHT_ENDS", "behind_thought"]

_TAG = r"think|thinking|thought|thoughts|reasoning"
THOUGHT_BEGINS = re.compile(
    rf"\s*(?:<(?:{_TAG})>|\[THINK\]|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>)", re.IGNORECASE
)
THOUGHT_ENDS = re.compile(
    rf"</(?:{_TAG})>|\[/THINK\]|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>", re.IGNORECASE
)


def behind_thought(text: str) -> str:
    """Return what follows the last thought in a text: all of it where there is none.

    Empty where a thought was begun and has no end (the model was cut off while it thought), and where nothing follows.
    """
    ends = list(THOUGHT_ENDS.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    return "" if THOUGHT_BEGINS.match(text) else text
