"""The DELLA authors' own post-processing of MBPP replies, for numbers that are to stand beside the paper's."""

from __future__ import annotations

__all__ = ["authors_program"]

_BLOCK, _BLOCK_END = "```python", "\n```"
_MAIN, _MAIN_LINE = '__name__ == "__main__"', 'if __name__ == "__main__":'
_HEADINGS = ("# Example usage", "# Test examples")
_ANNOUNCEMENTS = ("The solution is:", "The answer is:")
_NEXT_ANNOUNCEMENT = "\n\nThe answer is:"


def authors_program(reply: str) -> str:
    """Return what the authors' generate.py makes of a reply, slips and all.

    Step by step: what follows the last "### Response:", tabs as four blanks; from the first "```python" to the line
    that begins with three backquotes; up to the `__main__` block; up to each heading; what follows "The solution is:",
    then "The answer is:", each up to a "The answer is:" behind an empty line. Where an end is missing, the rest counts.
    Their slips: a `__main__` block with single quotes stays, a block without a language or with CRLF stays fenced, and
    "The answer is:" inside a comment of the program cuts off what stands before it.

    Source: declare-lab/della, generate.py, function test_mbpp.
    """
    text = reply.split("### Response:")[-1].replace("\t", "    ").strip()
    if _BLOCK in text:
        text = text[text.index(_BLOCK) :].strip().replace(_BLOCK, "")
        text = _up_to(text, _BLOCK_END)
    if _MAIN in text:
        text = _up_to(text, _MAIN_LINE)
    for heading in _HEADINGS:
        text = _up_to(text, heading)
    for announcement in _ANNOUNCEMENTS:
        if announcement in text:
            text = text[text.index(announcement) :].strip().replace(announcement, "")
            text = _up_to(text, _NEXT_ANNOUNCEMENT).strip()
    return text


def _up_to(text: str, end: str) -> str:
    """Return `text` up to `end`, stripped; unchanged where it has none."""
    return text[: text.index(end)].strip() if end in text else text
