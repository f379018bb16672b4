"""Which part of a reply is the answer: not the draft before it, and not the turns that a model makes up behind it."""

from __future__ import annotations

import re

from della_bench.thoughts import THOUGHT_BEGINS, THOUGHT_ENDS

__all__ = ["answer_in"]

# All patterns here take time in proportion to the text: what may repeat is bounded or followed by something else.
_END = re.compile(
    r"</s>|<eos>|<(?:end|start)_of_turn>|<file_sep>|\[INST\]"
    r"|<\|im_start\|>(?:assistant\b)?|<\|start_header_id\|>assistant<\|end_header_id\|>"
    r"|<\|\w{1,30}\|>|<\uff5c[^\uff5c\n]{1,40}\uff5c>"
    r"|^[ ]*###[ ]*(?:Instruction|Response)\b:?|###[ ]*(?:Instruction|Response):",
    re.MULTILINE,
)
_ANSWER_BEGINS = re.compile(r"###[ ]*Response\b:?|\[/INST\]")
_TORN_END = re.compile(r"(?:<\|\w{0,20}\|?|</s)\Z")

# Marks around a program that stand at the beginning of a line: MBPP's own, CodeLlama's, and tags.
_MARKED = {"BEGIN": "DONE", "PYTHON": "/PYTHON"}
_MARK_BEGINS = re.compile(r"^[ ]*(?:\[(?P<mark>BEGIN|PYTHON)\]|<(?P<tag>code|answer|solution)>)", re.MULTILINE)
_DONE = re.compile(r"\[DONE\]")
_NAMES_DONE = re.compile(r"(?<![\[\w])DONE\b")


def answer_in(text: str) -> str:
    """Return the part of a reply that is its answer: the first turn that says something, without what surrounds it.

    Left off are a draft up to `</think>` and its like (where something follows it), everything up to a mark such as
    `[BEGIN]` and from `[DONE]` on, the marks between turns, and all that follows such a mark. A mark alone between
    quotes is a string of the program.
    """
    text = _between_marks(_first_turn(_behind_thought(text))).rstrip()
    torn = _TORN_END.search(text, max(0, len(text) - 30))
    return text[: torn.start()] if torn else text


def _behind_thought(text: str) -> str:
    ends = [end for end in THOUGHT_ENDS.finditer(text) if not _is_quoted(text, end)]
    if ends:
        if text[ends[-1].end() :].strip():
            return text[ends[-1].end() :]
        text = text[: ends[-1].start()]
    begun = THOUGHT_BEGINS.match(text)
    return text[begun.end() :] if begun else text


def _first_turn(text: str) -> str:
    begin, may_answer = 0, True
    for end in _END.finditer(text):
        if end.start() < begin or _is_quoted(text, end):
            continue
        if text[begin : end.start()].strip():
            return text[begin : end.start()]
        # Nothing was said yet. Behind an instruction that is repeated the answer begins with the next response.
        instructs = may_answer and ("Instruction" in end[0] or "INST" in end[0])
        answer = _ANSWER_BEGINS.search(text, end.start()) if instructs else None
        may_answer = may_answer and not (instructs and answer is None)  # none is left: it is not looked for again
        begin = (answer or end).end()
    return text[begin:]


def _between_marks(text: str) -> str:
    for begin in _MARK_BEGINS.finditer(text):
        closing = f"[{_MARKED[begin['mark']]}]" if begin["mark"] else f"</{begin['tag']}>"
        end = text.find(closing, begin.end())
        inside = text[begin.end() : end if end >= 0 else len(text)]
        if inside.strip():
            return inside
    # "[DONE]" may be glued to the last line, where it would parse as an index; a program that has such a name means it.
    done = next((end for end in _DONE.finditer(text) if not _is_quoted(text, end)), None)
    if done and text[: done.start()].strip() and not _NAMES_DONE.search(text):
        return text[: done.start()]
    return text


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    before, after = text[mark.start() - 1 : mark.start()], text[mark.end() : mark.end() + 1]
    return before == after and before in ("'", '"')
