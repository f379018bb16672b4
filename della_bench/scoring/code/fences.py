"""The fenced blocks of a reply, also of one that fences carelessly; one pass over its lines.

What models do beside CommonMark's rules: a closing fence glued to the last line of code, code on the line of the
opening fence, no closing fence before the next block, a sentence behind the closing one, a fence inside a docstring, an
opening fence behind the words that introduce it, and no opening fence at all, because the prompt had it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["MOST_BLOCKS", "PYTHON", "Block", "fenced_blocks"]

PYTHON = frozenset({"", "python", "python2", "python3", "py", "py3", "pycon", "ipython", "python-repl"})
_OTHERS = frozenset(
    [
        "bash",
        "c",
        "console",
        "cpp",
        "css",
        "diff",
        "html",
        "ini",
        "java",
        "javascript",
        "js",
        "json",
        "latex",
        "markdown",
        "md",
        "output",
        "plain",
        "plaintext",
        "r",
        "rust",
        "sh",
        "shell",
        "sql",
        "text",
        "toml",
        "ts",
        "txt",
        "xml",
        "yaml",
    ]
)
_CODE = frozenset({"def", "class", "import", "from", "async", "return", "for", "while", "if", "try", "with", "lambda"})

_GOES_ON = "=([.:"  # what follows a word that is code and no language

MOST_BLOCKS = 200  # what follows so many, or so many lines with fences, is not looked at
_MOST_MARKS = 2_000
_LOOKED_AHEAD = 8  # fences inside a string that is still open, behind which its end is looked for

_MARK = re.compile(r"`{3,}|~{3,}")
_BEFORE = re.compile(r"(?P<quote>[> ]*)(?:[-*+]|\d{1,3}[.)])?")  # quotation and list marks
_WORD = re.compile(r"[ \t]*\{?\.?(?P<word>[\w+#.-]*)")
_QUOTES = re.compile(r"\"\"\"|'''")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language in small letters or "", its text, and whether its end was found."""

    language: str
    text: str
    closed: bool


@dataclass(frozen=True)
class _Opening:
    """An opening fence: its mark, its language, what stands before and behind it on its line, and how it is quoted."""

    mark: str
    language: str
    quote: str
    code: str


def fenced_blocks(text: str, parses: Callable[[str], bool]) -> list[Block]:
    """Return the fenced blocks of `text` that hold something, in their order.

    parses: whether a source is Python. It is asked where a fence stands inside a string that the block has opened, and
    of what stands before a first fence that only closes.
    """
    lines = text.split("\n")
    marks = [number for number, line in enumerate(lines) if "```" in line or "~~~" in line][:_MOST_MARKS]
    blocks: list[Block] = []
    opening: _Opening | None = None
    first, passed, skipped_to = 0, 0, -1
    quotes = _Quotes()

    def close(end: int, last: str = "", *, closed: bool = True) -> None:
        nonlocal opening
        assert opening is not None
        inside = [*([opening.code] if opening.code else []), *lines[first:end], *([last] if last.strip() else [])]
        blocks.extend(_block(opening, inside, closed=closed))
        opening = None

    for place, number in enumerate(marks):
        if len(blocks) >= MOST_BLOCKS:
            return blocks
        if number < skipped_to:
            continue
        line = lines[number]
        if opening is not None:
            quotes.read(lines[passed:number])
            passed = number
            if quotes.open and (end := _end_of_string(lines, marks[place:], first, quotes, parses)):
                skipped_to = end + 1
                found = end < len(lines)
                close(end, _before_mark(lines[end], opening.mark) if found else "", closed=found)
                continue
            next_opening = _opening(line)
            known = next_opening is not None and (next_opening.language or next_opening.code)
            if _ends(line, opening.mark) and not (known and next_opening and _is_known(next_opening)):
                close(number, _before_mark(line, opening.mark))
                continue
            if not known:
                continue
            close(number, closed=False)
        elif place == 0 and (before := _opened_by_the_prompt(lines[:number], line, parses)):
            blocks.append(Block("", before, closed=True))
            continue
        opening = _opening(line)
        if opening is None:
            continue
        first = passed = number + 1
        quotes = _Quotes()
        if opening.code:
            quotes.read([opening.code])
            if opening.code.rstrip().endswith(opening.mark):  # the whole block on one line
                inside = opening.code.rstrip().removesuffix(opening.mark)
                blocks.extend(_block(opening, [inside], closed=True))
                opening = None
    if opening is not None:
        close(len(lines), closed=False)
    return blocks


class _Quotes:
    """Whether a string in triple quotes is open behind the lines that were read."""

    def __init__(self, is_open: str = "") -> None:
        self.open = is_open

    def read(self, lines: Sequence[str]) -> None:
        for line in lines:
            for quotes in _QUOTES.findall(line):
                if not self.open:
                    self.open = quotes
                elif self.open == quotes:
                    self.open = ""


def _end_of_string(
    lines: Sequence[str], marks: Sequence[int], first: int, quotes: _Quotes, parses: Callable[[str], bool]
) -> int | None:
    """Return the line of the first fence that closes the block behind the end of its open string.

    The number of lines where there is no such fence and the block goes on to the end; None where the string does.
    """
    ahead = _Quotes(quotes.open)
    for last, mark in pairwise(marks[: 1 + _LOOKED_AHEAD]):
        ahead.read(lines[last:mark])
        line = lines[mark]
        if ahead.open or not _ends(line, "```"):
            continue
        source = textwrap.dedent("\n".join([*lines[first:mark], _before_mark(line, "```")]))
        if parses(source):
            return mark
    if len(marks) <= 1 + _LOOKED_AHEAD and parses(textwrap.dedent("\n".join(lines[first:]))):
        return len(lines)
    return None


def _ends(line: str, mark: str) -> bool:
    """Return whether a line closes a block that `mark` opened: alone, behind the last code, or before a sentence."""
    stripped = line.strip()
    if stripped.startswith(mark):
        return True
    return stripped.endswith(mark) and not stripped.startswith("#") and not stripped.endswith("`" + mark)


def _before_mark(line: str, mark: str) -> str:
    return "" if line.strip().startswith(mark) else line.rstrip().removesuffix(mark)


def _opening(line: str) -> _Opening | None:
    """Return the opening fence of a line, or None."""
    mark = _MARK.search(line)
    if mark is None:
        return None
    before, behind = line[: mark.start()], line[mark.end() :]
    word = _WORD.match(behind)
    assert word is not None  # it may be empty
    language, rest = word["word"].lower(), behind[word.end() :].strip()
    code = ""
    if language in _CODE or behind.lstrip().startswith("@") or (rest[:1] in _GOES_ON and rest):
        language, code = "", behind.strip()
    elif rest and (rest.split(maxsplit=1)[0] in _CODE or rest.startswith("@")):
        code = rest
    elif "`" in behind:
        return None
    found = _Opening(mark[0], language, "", code)
    if at_beginning := _BEFORE.fullmatch(before.strip()):
        return _Opening(mark[0], language, at_beginning["quote"].strip(), code)
    # Behind words that introduce it a fence must say that code follows, or the words must.
    introduced = before.rstrip().endswith(":") and not language and not rest
    return (
        found if mark[0][0] == "`" and (introduced or code or (language and language in PYTHON and not rest)) else None
    )


def _is_known(opening: _Opening) -> bool:
    return bool(opening.code) or opening.language in PYTHON | _OTHERS


def _opened_by_the_prompt(before: Sequence[str], line: str, parses: Callable[[str], bool]) -> str:
    """Return the code before a first fence that only closes, or "" where it is none."""
    stripped = line.strip()
    only_closes = not stripped.strip("`") or (stripped[0] != "`" and line.count("```") == 1 and _ends(line, "```"))
    if not only_closes or not any(line.startswith(("def ", "class ")) for line in before):
        return ""
    source = "\n".join([*before, _before_mark(line, "```")])
    return source if parses(source) else ""


def _block(opening: _Opening, lines: list[str], *, closed: bool) -> list[Block]:
    """Return the block in a list, or nothing where it holds nothing."""
    if opening.quote:
        lines = [re.sub(r"^[ \t]*(?:>[ ]?)+", "", line) for line in lines]
    text = "\n".join(lines)
    return [Block(opening.language, text, closed)] if text.strip() else []
