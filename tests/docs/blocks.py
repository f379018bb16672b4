"""The code blocks of the README and the docs, with what a comment before a block says about testing it.

    <!-- test: run -->                  a block of shell commands that takes seconds: it is run
    <!-- test: run, slow, real_data --> further words are pytest's markers
    <!-- test: no, what it needs -->    a block of Python that cannot run here, and why

Blocks of Python are run unless a comment says no; of blocks of shell commands the options are checked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
PAGES = [
    *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md")),
    *sorted((PROJECT / "docs").glob("*.md")),
]
_FENCE = re.compile(r"(?:<!-- test: (?P<says>.*?) -->\n\s*)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is where its text begins, `words` what the comment before it says."""

    page: Path
    line: int
    language: str
    text: str
    words: tuple[str, ...]

    @property
    def is_run(self) -> bool:
        """Whether the block is run as it stands."""
        return "no" not in self.words if self.language == "python" else "run" in self.words

    @property
    def parameter(self) -> object:
        """The block as a parameter of a test: blocks of one page share a folder, and so a worker."""
        marks = [getattr(pytest.mark, word) for word in self.words if word != "run"]
        name = f"{self.page.relative_to(PROJECT)}:{self.line}"
        return pytest.param(self, id=name, marks=[*marks, pytest.mark.xdist_group(self.page.name)])


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["text"],
            tuple(word.strip() for word in (match["says"] or "").split(",") if word.strip()),
        )
        for match in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command in a block of shell commands, without comments, files written, and settings."""
    text = re.sub(r"^cat > .* <<(\w+)\n.*?^\1$", "", block.text, flags=re.M | re.S)
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            if re.match(r"\w+=\$\(", part):
                continue  # a variable that another program's output is put into
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
