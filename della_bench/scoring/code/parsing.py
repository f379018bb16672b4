"""Parsing what may be Python, or anything else, with a budget: the work on one reply is bounded by its length.

CPython's parser takes one to two millionths of a second a character, also for text that was written to be slow. So the
budget is counted in characters and not in seconds: a busy machine finds the same program as an idle one.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CUT", "LONGEST_PARSED", "Beginning", "Parser", "parsed"]

CUT = "+cut"  # lines at the end that do not parse were left off

LONGEST_PARSED = 100_000  # characters of one attempt
PASSES = 8  # a reply's text may be parsed about as often as this, over all attempts,
AT_LEAST = 20_000  # a short one more often,
AT_MOST = 400_000  # and a long one less often: characters

MOST_CUTS = 8  # times that an end is left off where the parser stopped
FIRST_LINES = 64  # of a longer text so many lines are tried first, then twice as many, and so on


@dataclass(frozen=True)
class Beginning:
    """The longest beginning of a text that parses: its source, its tree, and whether anything was left off."""

    source: str
    tree: ast.Module
    is_cut: bool

    @property
    def mark(self) -> str:
        """What a rule's name gets: CUT, or nothing."""
        return CUT * self.is_cut


def parsed(source: str) -> ast.Module | SyntaxError | None:
    """Return the tree, the fault, or None where there is neither: a NUL, brackets nested by the thousand."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on escapes such as "\\d", which are the model's affair
            return ast.parse(source)
    except SyntaxError as fault:
        return fault
    except (ValueError, RecursionError, MemoryError):
        return None


class Parser:
    """Parses on the budget of one reply; what was parsed before is remembered and costs nothing."""

    def __init__(self, length: int) -> None:
        """Set the budget for a reply of `length` characters."""
        self.left = min(max(AT_LEAST, PASSES * length), AT_MOST)
        self._known: dict[str, ast.Module | SyntaxError | None] = {}

    def tree(self, source: str) -> ast.Module | SyntaxError | None:
        """Return the tree, the fault, or None where the source is too long or too strange.

        What is too long for what is left of the budget ends it.
        """
        if source not in self._known:
            if len(source) > self.left:
                self.left = 0
            if len(source) > min(LONGEST_PARSED, self.left):
                return None
            self.left -= len(source)
            self._known[source] = parsed(source)
        return self._known[source]

    def program(self, source: str) -> ast.Module | None:
        """Return the tree of a source that parses and holds at least one statement."""
        tree = self.tree(source)
        return tree if isinstance(tree, ast.Module) and tree.body else None

    def beginning(self, text: str, prompt: str = "") -> Beginning | None:
        """Return the longest beginning of `text`, in whole lines, that parses behind `prompt`, or None."""
        lines = text.rstrip().split("\n")
        before = prompt.count("\n")
        for cuts in range(MOST_CUTS + 1):
            source = "\n".join(lines)
            if not source.strip():
                return None
            tree = self.tree(prompt + source)
            if isinstance(tree, ast.Module):
                return Beginning(source, tree, cuts > 0)
            if tree is None:
                return None
            # The parser stops at the first line that it cannot read; an unclosed bracket is reported where it opens.
            lines = lines[: max(0, min((tree.lineno or 1) - 1 - before, len(lines) - 1))]
        return None

    def beginning_of_lines(self, lines: Sequence[str], first: int) -> tuple[Beginning, int] | None:
        """Return the longest beginning of `lines[first:]` that parses and how many lines it has, or None.

        Only as many lines are read as the beginning has, and at most twice as many more: so reading a text of many
        beginnings from one to the next takes time in proportion to the text.
        """
        size = FIRST_LINES
        while (end := first + size) < len(lines):
            tree = self.tree("\n".join(lines[first:end]))
            if tree is None or (isinstance(tree, SyntaxError) and not _may_go_on(tree, size)):
                break
            size *= 2
        begun = self.beginning("\n".join(lines[first:end]))
        return None if begun is None or not begun.tree.body else (begun, begun.source.count("\n") + 1)


def _may_go_on(fault: SyntaxError, lines: int) -> bool:
    """Return whether a fault may come from where the text was cut off, `lines` lines after its beginning."""
    said = str(fault.msg)
    return (fault.lineno or 1) >= lines - 1 or "never closed" in said or "unterminated" in said or "EOF" in said
