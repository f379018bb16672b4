"""Finding the program in a model's reply: a pure function of text. Nothing is run, and nothing here is fetched."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from della_bench.scoring.code.examples import defines, parsed, without_examples

__all__ = ["RULES", "Extracted", "extract"]

# What fired, in the order in which they are tried.
RULES = {
    "fence": "the first fenced block that parses and defines something, else the first that parses",
    "open-fence": "a fenced block without an end",
    "whole": "the reply is a program",
    "body": "the reply goes on where the prompt's function stops",
    "announced": 'what follows "The solution is:" or "The answer is:"',
    "prose": "the first program between lines of prose",
    "raw": "nothing parses: the first block, or what is announced, or the reply as it is",
    "empty": "there is nothing",
}
CUT = "+cut"  # lines at the end that do not parse were left off
EXAMPLES = "+examples"  # a __main__ block, examples or tests after the program were left off

LONGEST_PARSED = 100_000  # characters; of a longer text outside of fences only the beginning is looked at
PARSED_AT_MOST = 2_000_000  # characters over all attempts on one reply

_END = re.compile(
    r"</s>|<\|im_end\|>|<\|endoftext\|>|<\|eot_id\|>|^[ ]*###[ ]*(?:Instruction|Response)\b:?", re.MULTILINE
)
_RESPONSE = re.compile(r"^[ ]*###[ ]*Response\b:?", re.MULTILINE)
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = frozenset({"", "python", "python2", "python3", "py", "py3", "pycon", "ipython"})
_ANNOUNCED = re.compile(r"The (?:solution|answer) is:")
_START = re.compile(
    r"^(?:async\s+def\s|def\s|class\s|@\w|import\s+\w|from\s+[\w.]+\s+import\b|try:|[A-Za-z_]\w*\s*=(?!=))",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Extracted:
    """A program and the rule that found it: a key of RULES, with +cut and +examples where something was left off."""

    program: str
    rule: str


def extract(reply: str, prompt: str = "") -> Extracted:
    """Return the program in `reply`.

    prompt: source that will stand before the program; a reply may go on in the middle of its last function.

    Line ends become newlines and tabs four blanks, inside strings too. What follows an end mark or a second
    "### Instruction" is not looked at. A reply in which nothing parses is returned as it is, so that its verdict is the
    interpreter's.
    """
    text = _one_turn(reply.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    "))
    if not text.strip():
        return Extracted("", "empty")
    reader = _Reader(prompt)
    blocks = list(_blocks(text))
    python = [block for block in blocks if block.language.lower() in _PYTHON]
    others = [block for block in blocks if block not in python]
    found = _fenced(reader, python) or _plain(reader, text) or _fenced(reader, others)
    if found:
        program, rule = found
        shorter = without_examples(program, prompt)
        return Extracted(shorter.strip("\n").rstrip(), rule + EXAMPLES * (shorter != program))
    if blocks:
        return Extracted(blocks[0].text.strip("\n").rstrip(), "raw")
    announced = [part for part in _ANNOUNCED.split(text)[1:] if part.strip()]
    return Extracted([*announced, text][0].strip(), "raw")


@dataclass(frozen=True)
class _Block:
    language: str
    text: str
    closed: bool


class _Reader:
    """Parses on a budget, so that no reply takes minutes."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.left = PARSED_AT_MOST

    def tree(self, text: str, prompt: str = "") -> ast.Module | SyntaxError | None:
        """Return the tree, the fault, or None where the text is too long or too strange to be parsed."""
        if len(text) > min(LONGEST_PARSED, self.left):
            return None
        self.left -= len(text)
        return parsed(prompt + text)

    def parses(self, text: str, prompt: str = "") -> bool:
        """Return whether there is at least one statement."""
        tree = self.tree(text, prompt)
        return isinstance(tree, ast.Module) and bool(tree.body)

    def program(self, text: str) -> tuple[str, str] | None:
        """Return (the longest beginning of `text` that parses and defines something, "" or CUT), or None."""
        lines = text.rstrip().split("\n")
        cut = ""
        while lines:
            kept = "\n".join(lines)
            tree = self.tree(kept)
            if isinstance(tree, ast.Module):
                return (kept, cut) if _defines(tree) else None
            if tree is None:
                return None
            # The parser stops at the first line that it cannot read; an unclosed bracket is reported where it opens.
            lines = lines[: min((tree.lineno or 1) - 1, len(lines) - 1)]
            cut = CUT
        return None

    def continues(self, text: str) -> tuple[str, str] | None:
        """Return what `program` does for a text that goes on inside the prompt's last function."""
        first = next((line for line in text.split("\n") if line.strip()), "")
        if not self.prompt or not first[:1].isspace():
            return None
        lines = text.strip("\n").rstrip().split("\n")
        before = self.prompt.count("\n")
        cut = ""
        while any(line.strip() for line in lines):
            kept = "\n".join(lines)
            tree = self.tree(kept, self.prompt)
            if isinstance(tree, ast.Module):
                return kept, cut
            if tree is None:
                return None
            lines = lines[: max(0, min((tree.lineno or 1) - 1 - before, len(lines) - 1))]
            cut = CUT
        return None


def _one_turn(text: str) -> str:
    """Return the first turn of `text` that says something, without the marks between turns."""
    if (first := _END.search(text)) and not text[: first.start()].strip():
        response = _RESPONSE.search(text, first.start())
        text = text[(response or first).end() :]
    for end in _END.finditer(text):
        if text[: end.start()].strip():
            return text[: end.start()]
    return _END.sub("", text)


def _blocks(text: str) -> Iterator[_Block]:
    """Yield the fenced blocks of `text` that hold something."""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence["mark"].startswith(opened["mark"]) and not fence["language"]:
            if (inside := text[opened.end() + 1 : fence.start()]).strip():
                yield _Block(opened["language"], inside, True)
            opened = None
    if opened is not None and (inside := text[opened.end() + 1 :]).strip():
        yield _Block(opened["language"], inside, False)


def _fenced(reader: _Reader, blocks: list[_Block]) -> tuple[str, str] | None:
    """Return (program, rule) found in the blocks, or None."""
    closed = [block.text for block in blocks if block.closed]
    parsing = [text for text in (_dedented(reader, text) for text in closed) if text is not None]
    for text in parsing:
        tree = reader.tree(text, "" if reader.parses(text) else reader.prompt)
        if isinstance(tree, ast.Module) and _defines(tree):
            return text, "fence"
    if parsing:
        return parsing[0], "fence"
    for block in blocks:
        rule = "fence" if block.closed else "open-fence"
        text = textwrap.dedent(block.text)
        if found := reader.program(text) or reader.continues(block.text):
            return found[0], rule + found[1]
        if not block.closed and reader.parses(text):
            return text, rule
    return None


def _dedented(reader: _Reader, text: str) -> str | None:
    """Return the block's text if it parses as it is, behind the prompt, or without its common indentation."""
    if reader.parses(text) or (reader.prompt and reader.parses(text, reader.prompt)):
        return text
    without = textwrap.dedent(text)
    return without if without != text and reader.parses(without) else None


def _plain(reader: _Reader, text: str) -> tuple[str, str] | None:
    """Return (program, rule) found outside of fences, or None."""
    if len(text) > LONGEST_PARSED:
        found = _plain(reader, text[:LONGEST_PARSED].rpartition("\n")[0])
        return found and (found[0], found[1].removesuffix(CUT) + CUT)
    indented = text.strip("\n").startswith("  ")  # a single blank is only how a reply begins
    stripped, dedented = text.strip(), textwrap.dedent(text).strip()
    for candidate in (dedented, stripped) if indented else (stripped, dedented):
        tree = reader.tree(candidate)
        if isinstance(tree, ast.Module) and _defines(tree):
            return candidate, "whole"
    if found := reader.continues(text):
        return found[0], "body" + found[1]
    for part in _ANNOUNCED.split(text)[1:]:
        if found := _between(reader, part.strip()):
            return found[0], "announced" + found[1]
    if found := _between(reader, text.strip()):
        starts = text.strip().startswith(found[0][:80])
        return found[0], ("whole" if starts else "prose") + found[1]
    return None


def _between(reader: _Reader, text: str) -> tuple[str, str] | None:
    """Return the first program that begins at a line of code; +cut stands only where it begins the text."""
    for start in _START.finditer(text):
        if len(text) - start.start() > reader.left:
            break
        if found := reader.program(text[start.start() :]):
            return found[0], found[1] if not text[: start.start()].strip() else ""
    return None


def _defines(tree: ast.Module) -> bool:
    """Return whether a tree is a program that defines something; one that returns is a function's body."""
    return any(map(defines, tree.body)) and not any(isinstance(node, ast.Return) for node in tree.body)
