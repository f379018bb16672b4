"""The parts of an answer that parse: its blocks, the answer itself, and what stands between lines of prose."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from della_bench.scoring.code.examples import defines
from della_bench.scoring.code.fences import MOST_BLOCKS, Block
from della_bench.scoring.code.names import bound_names, in_scope, is_stub, needed_names
from della_bench.scoring.code.own_tests import imports_from_elsewhere
from della_bench.scoring.code.parsing import CUT, LONGEST_PARSED, Parser

__all__ = ["ANNOUNCED", "Finder", "Piece"]

ANNOUNCED = re.compile(r"The (?:solution|answer) is:")

# A line that may begin a program.
_START = re.compile(
    r"async +def\s|def\s|class\s|@\w|import +\w|from +[\w.]+ +import\b|try:|[A-Za-z_]\w*(?: *:[^=\n]{1,80})? *=(?!=)"
)
_SET_OFF = re.compile(r"(?:\A|(?<=\n\n))    .*\n?(?:(?:    .*)?\n)*(?:    .*)?")
_RETURNS = (ast.Return, ast.Yield, ast.YieldFrom)


@dataclass(frozen=True)
class Piece:
    """A part of an answer that parses.

    rule: what found it. place: its number in reading order. prompt: the source that it goes on from, or "".
    is_program: it may be the answer's program; another piece can only lend it what it binds.
    """

    source: str
    tree: ast.Module
    rule: str
    place: int
    prompt: str = ""
    is_program: bool = True

    @cached_property
    def binds(self) -> frozenset[str]:
        """The names that it binds, those of the prompt that it goes on from among them."""
        return frozenset(bound_names(self.tree.body))

    @cached_property
    def stubs(self) -> frozenset[str]:
        """The names that it only announces: functions whose body does nothing, and imports of who knows what."""
        announcing = {node for node in self.tree.body if is_stub(node) or imports_from_elsewhere(node)}
        return frozenset(bound_names(announcing) - bound_names(set(self.tree.body) - announcing))

    @cached_property
    def needs(self) -> frozenset[str]:
        """The names that it reads and does not bind."""
        return frozenset(needed_names(self.prompt + self.source))


class Finder:
    """Finds the pieces of one answer.

    prompt: source that will stand before the program. asked: names that the tests need.
    """

    def __init__(self, prompt: str, asked: frozenset[str], parser: Parser) -> None:
        self.prompt, self.asked, self.parser = prompt, asked, parser

    def in_blocks(self, blocks: Sequence[Block]) -> list[Piece]:
        """Return the pieces in blocks: first those that define something, then the others, then those with a fault."""
        whole = {place: piece for place, block in enumerate(blocks) if (piece := self._whole_block(block, place))}
        torn = [
            piece
            for place, block in enumerate(blocks)
            if place not in whole
            for piece in self._torn_block(block, place)
        ]
        return [
            *(piece for piece in whole.values() if piece.prompt or self._is_program(piece.tree)),
            *(piece for piece in whole.values() if not piece.prompt and not self._is_program(piece.tree)),
            *torn,
        ]

    def in_plain(self, text: str) -> Iterator[list[Piece]]:
        """Yield the pieces of a text without regard to fences, a list for each way to look at it."""
        mark = ""
        if len(text) > LONGEST_PARSED:
            text, mark = text[:LONGEST_PARSED].rpartition("\n")[0], CUT
        for pieces in self._ways(text):
            yield [replace(piece, rule=piece.rule.removesuffix(mark) + mark) for piece in pieces]

    def _ways(self, text: str) -> Iterator[list[Piece]]:
        yield self._body(text, "body")
        for part in ANNOUNCED.split(text)[1:]:
            found = self._between(part.strip())
            yield [replace(piece, rule="announced" + CUT * piece.rule.endswith(CUT)) for piece in found]
        yield self._between(text.strip())
        yield self._indented(text)
        yield self._mended_body(text, "body")
        yield self._between(_typed_in(text))

    def whole(self, text: str) -> list[Piece]:
        """Return the piece that the whole text is, in a list, or nothing."""
        if len(text) > LONGEST_PARSED:
            return []
        indented = text.strip("\n").startswith("  ")  # a single blank is only how a reply begins
        stripped, dedented = text.strip(), textwrap.dedent(text).strip()
        for source in (dedented, stripped) if indented else (stripped, dedented):
            tree = self.parser.program(source)
            if tree and self._is_program(tree):
                return [Piece(source, tree, "whole", 0)]
        return []

    def _whole_block(self, block: Block, place: int) -> Piece | None:
        """Return the piece of a closed block that parses: as it is, behind the prompt, or without its indentation."""
        if not block.closed:
            return None
        for text in dict.fromkeys((block.text, textwrap.dedent(block.text), _without_prompts(block.text))):
            if tree := self.parser.program(text):
                if self.prompt and _returns(tree) and (body := self._mended_body(text, "fence")):
                    return replace(body[0], place=place)
                return Piece(text, tree, "fence", place)
            if self.prompt and text == block.text and (tree := self.parser.program(self.prompt + text)):
                return Piece(text, tree, "fence", place, self.prompt)
        return None

    def _torn_block(self, block: Block, place: int) -> list[Piece]:
        """Return what can be read of a block that does not parse, or that has no end: its beginning, or a body."""
        rule = "fence" if block.closed else "open-fence"
        text = textwrap.dedent(block.text)
        pieces = []
        begun = self.parser.beginning(text)
        if begun and self._is_program(begun.tree):
            pieces.append(Piece(begun.source, begun.tree, rule + begun.mark, place))
        if not pieces or not self.asked & pieces[0].binds:
            bodies = self._body(block.text, rule) or self._mended_body(block.text, rule)
            pieces += [replace(body, place=place) for body in bodies]
        if not pieces and not block.closed and (tree := self.parser.program(text)):
            pieces.append(Piece(text, tree, rule, place))
        return pieces

    def _body(self, text: str, rule: str) -> list[Piece]:
        """Return the piece of a text that goes on inside the prompt's last function, in a list, or nothing."""
        first = next((line for line in text.split("\n") if line.strip()), "")
        if not self.prompt or not first[:1].isspace():
            return []
        begun = self.parser.beginning(text.strip("\n"), self.prompt)
        return [Piece(begun.source, begun.tree, rule + begun.mark, 0, self.prompt)] if begun else []

    def _mended_body(self, text: str, rule: str) -> list[Piece]:
        """Return what `_body` does for a text that lost the indentation of its first line, or of all lines.

        Only a text that returns from the prompt's function is one.
        """
        if not self.prompt or not re.search(r"\b(?:return|yield)\b", text):
            return []
        indent, before = _indentation(self.prompt), self.prompt.count("\n")
        for mended in (indent + text.strip(), textwrap.indent(textwrap.dedent(text.strip("\n")), indent)):
            begun = self.parser.beginning(mended, self.prompt)
            if begun and any(_goes_on(node, before) for node in begun.tree.body):
                return [Piece(begun.source, begun.tree, rule + begun.mark, 0, self.prompt)]
        return []

    def _between(self, text: str) -> list[Piece]:
        """Return the pieces of a text that begin at a line of code, one after the other.

        The first is `whole` where it begins the text, the others are `prose`; +cut stands only at a `whole` one.
        """
        lines = text.split("\n")
        pieces: list[Piece] = []
        number = 0
        while number < len(lines) and self.parser.left:
            if _START.match(lines[number]) and (found := self.parser.beginning_of_lines(lines, number)):
                begun, size = found
                rule = "prose" if number else "whole" + begun.mark
                is_program = self._is_program(begun.tree)
                pieces.append(Piece(begun.source, begun.tree, rule, number, is_program=is_program))
                number += size
            else:
                number += 1
        return pieces

    def _indented(self, text: str) -> list[Piece]:
        """Return the pieces of what is set off from prose by four blanks, as old Markdown has it."""
        pieces: list[Piece] = []
        for number, part in enumerate(_SET_OFF.findall(text)[:MOST_BLOCKS]):
            for piece in self._between(textwrap.dedent(part).strip("\n")):
                is_program = piece.is_program and (not self.asked or bool(piece.binds & self.asked))
                pieces.append(replace(piece, rule="prose", place=number, is_program=is_program))
        return pieces

    def _is_program(self, tree: ast.Module) -> bool:
        """Return whether a tree defines something and does not return: one that returns is a function's body."""
        if any(isinstance(node, ast.Return) for node in tree.body):
            return False
        return any(map(defines, tree.body)) or bool(self.asked and self.asked & bound_names(tree.body))


def _returns(tree: ast.Module) -> bool:
    return any(isinstance(node, _RETURNS) for node in in_scope(tree.body))


def _goes_on(node: ast.stmt, before: int) -> bool:
    """Return whether a function begins in the first `before` lines and returns behind them."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.lineno > before:
        return False
    return any(isinstance(part, _RETURNS) and part.lineno > before for part in in_scope(node.body))


def _indentation(prompt: str) -> str:
    """Return the blanks before the body of the prompt's last function."""
    last = next((line for line in reversed(prompt.split("\n")) if line.strip()), "")
    blanks = last[: len(last) - len(last.lstrip())]
    return blanks + "    " if last.rstrip().endswith(":") or not blanks else blanks


def _without_prompts(text: str) -> str:
    """Return a session of the interactive interpreter as a source: its input without prompts, and no output."""
    if not text.lstrip().startswith(">>> "):
        return text
    return _typed_in(text)


def _typed_in(text: str) -> str:
    """Return what stands behind the prompts of the interactive interpreter in a text."""
    lines = [line.strip() for line in text.split("\n")]
    return "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))
