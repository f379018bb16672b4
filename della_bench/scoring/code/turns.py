"""Which part of a reply is the answer: not the draft before it, and not the turns that a model makes up behind it."""

from __future__ import annotations

import re
from html import unescape
from itertools import islice

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
# Who speaks next, as base models go on; not a variable with a type and a value.
_SPEAKER = re.compile(r"^(?:#{3}[ ]*)?(?:Human|User|Assistant):(?=[ ]|$)(?![^\n]*=)", re.MULTILINE)
_CODE = re.compile(r"^[ ]*(?:async +)?def \w+\(|^class \w+[(:]|^[ ]+return\b|= *lambda\b", re.MULTILINE)
_FENCE = re.compile(r"```|~~~")
_MOST_SPEAKERS = 20
_PRE = re.compile(r"^[ ]*<pre\b[^<>\n]{0,80}>[ ]*\n?(?:[ ]*<code\b[^<>\n]{0,80}>)?", re.MULTILINE)
_PRE_ENDS = re.compile(r"</(?:code|pre)>")
_DONE = re.compile(r"\[DONE\]")
_NAMES_DONE = re.compile(r"(?<![\[\w])DONE\b")


def answer_in(text: str) -> str:
    """Return the part of a reply that is its answer: the first turn that says something, without what surrounds it.

    Left off are a draft up to `</think>` and its like (where something follows it), everything up to a mark such as
    `[BEGIN]` and from `[DONE]` on, the marks between turns, and all that follows such a mark, or a line that begins
    with `Human:` behind a program. A mark alone between quotes is a string of the program. Of a page in HTML the answer
    is its first <pre> with a program.
    """
    text = _before_another_speaks(_first_turn(_behind_thought(text)))
    text = _between_marks(_in_html(text)).rstrip()
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


def _before_another_speaks(text: str) -> str:
    """Return what stands before the first speaker behind a program that is in no string and no block."""
    code = _CODE.search(text)
    for mark in islice(_SPEAKER.finditer(text, code.end()), _MOST_SPEAKERS) if code else ():
        before = text[: mark.start()]
        if not any(before.count(quotes) % 2 for quotes in ("```", "~~~", '"""', "'''")):
            return before
    return text


def _in_html(text: str) -> str:
    """Return the first program in <pre> tags that no other code and no fence stands before, or the text."""
    if (pre := _PRE.search(text)) is None:
        return text
    first = min((found.start() for found in (_CODE.search(text), _FENCE.search(text)) if found), default=len(text))
    while pre is not None and pre.start() <= first:
        end = _PRE_ENDS.search(text, pre.end())
        inside = unescape(text[pre.end() : end.start() if end else len(text)])
        if _CODE.search(inside):
            return inside
        pre = _PRE.search(text, end.end()) if end else None
    return text


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
