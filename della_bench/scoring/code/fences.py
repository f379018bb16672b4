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
_NAMED = re.compile(r"[ \t]*(?:(\w+):[\w./\\-]*|\[(\w+)\])[ \t]*$")  # ```python:main.py and ```[python]
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
    return _Reader(text.split("\n"), parses).blocks()


class _Reader:
    """Reads the lines that hold a fence, from one to the next."""

    def __init__(self, lines: list[str], parses: Callable[[str], bool]) -> None:
        self.lines, self.parses = lines, parses
        self.marks = [number for number, line in enumerate(lines) if "```" in line or "~~~" in line][:_MOST_MARKS]
        self.found: list[Block] = []
        self.opening: _Opening | None = None
        self.first = 0  # line of the open block's text
        self.passed = 0  # line up to which its quotes were read
        self.skipped_to = 0  # line before which a fence stood inside a string
        self.quotes = _Quotes()

    def blocks(self) -> list[Block]:
        for place, number in enumerate(self.marks):
            if len(self.found) >= MOST_BLOCKS:
                break
            if number < self.skipped_to:
                continue
            if self.opening is not None:
                if not self._opens_another(self.opening, place):
                    continue
            elif place == 0 and (before := _opened_by_the_prompt(self.lines[:number], self.lines[number], self.parses)):
                self.found.append(Block("", before, closed=True))
                continue
            self._open(number)
        if self.opening is not None:
            self._close(self.opening, len(self.lines), closed=False)
        return self.found

    def _opens_another(self, opening: _Opening, place: int) -> bool:
        """Close the open block if it ends at a fence; return whether the fence opens the next one."""
        number, line = self.marks[place], self.lines[self.marks[place]]
        self.quotes.read(self.lines[self.passed : number])
        self.passed = number
        if self.quotes.open:
            end = _end_of_string(self.lines, self.marks[place:], self.first, self.quotes, self.parses)
            if end is not None:
                self.skipped_to = end + 1
                self._close(opening, end, closed=end < len(self.lines))
                return False
        following = _opening(line)
        if _ends(line, opening.mark) and not (following and _is_known(following)):
            self._close(opening, number)
            return False
        if following is None or not (following.language or following.code):
            return False
        self._close(opening, number, closed=False)
        return True

    def _open(self, number: int) -> None:
        self.opening = opening = _opening(self.lines[number])
        self.first = self.passed = number + 1
        self.quotes = _Quotes()
        if opening is not None and opening.code:
            self.quotes.read([opening.code])
            if opening.code.endswith(opening.mark):  # the whole block on one line
                self.found += _block(opening, [opening.code.removesuffix(opening.mark)], closed=True)
                self.opening = None

    def _close(self, opening: _Opening, end: int, *, closed: bool = True) -> None:
        """Keep the open block, whose text ends before line `end`, or in it where a fence is glued to code."""
        last = _before_mark(self.lines[end], opening.mark) if closed else ""
        inside = [opening.code, *self.lines[self.first : end], last]
        self.found += _block(opening, inside[not inside[0] : len(inside) - (not last.strip())], closed=closed)
        self.opening = None


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
    if (named := _NAMED.match(behind)) and (named[1] or named[2]).lower() in PYTHON | _OTHERS:
        language, rest = (named[1] or named[2]).lower(), ""
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
    """Return whether an opening fence says that code follows: a bare one does not, nor one before a sentence."""
    return bool(opening.code) or (opening.language != "" and opening.language in PYTHON | _OTHERS)


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
