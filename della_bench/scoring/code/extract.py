"""Finding the program in a model's reply: a pure function of text. Nothing is run, and nothing here is fetched.

turns.py finds the answer in the reply, fences.py its blocks, pieces.py what of them parses, and here the program is
chosen among the pieces, joined to what it needs of the others, and freed of its examples (examples.py, with uses.py and
own_tests.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from della_bench.scoring.code.examples import without_examples
from della_bench.scoring.code.fences import PYTHON, Block, fenced_blocks
from della_bench.scoring.code.names import needed_names
from della_bench.scoring.code.parsing import CUT, Parser
from della_bench.scoring.code.pieces import ANNOUNCED, Finder, Piece
from della_bench.scoring.code.turns import answer_in

__all__ = ["CUT", "EXAMPLES", "JOINED", "RULES", "Extracted", "begins_with_future", "extract"]

# What fired, in the order in which they are tried.
RULES = {
    "fence": "the first fenced block that defines what the tests call, else something, else the first that parses",
    "open-fence": "a fenced block without an end",
    "whole": "the reply is a program",
    "body": "the reply goes on where the prompt's function stops",
    "announced": 'what follows "The solution is:" or "The answer is:"',
    "prose": "the first program between lines of prose",
    "raw": "nothing parses: the first block, or what is announced, or the reply as it is",
    "empty": "there is nothing",
}
JOINED = "+joined"  # what the program needs was taken from other pieces
EXAMPLES = "+examples"  # a __main__ block, examples or tests after the program were left off

# How well a piece answers what is asked for.
_NOTHING, _ANNOUNCES, _SOME, _ALL, _COMPLETE = range(5)

_FUNCTION = re.compile(r"^(?:async +)?def +(\w+)", re.MULTILINE)
_INVISIBLE = re.compile(r"^[\ufeff\u200b]+", re.MULTILINE)  # marks that copied lines begin with
_NO_BREAK = re.compile(r"^[ \u00a0]+", re.MULTILINE)  # as pages indent code
_LANGUAGE = re.compile(r"\A\s*(?:python3?|py)[ ]*\n", re.IGNORECASE)  # what a fence left behind
_WORD = re.compile(r"\A\s*([A-Za-z_]\w*)[ ]*\n")
_FUTURE = re.compile(r"^from +__future__ +import\b", re.MULTILINE)


@dataclass(frozen=True)
class Extracted:
    """A program and the rule that found it: a key of RULES, with +cut, +joined and +examples where they apply."""

    program: str
    rule: str


def extract(reply: str, prompt: str = "", asked: Iterable[str] = ()) -> Extracted:
    """Return the program in `reply`.

    prompt: source that will stand before the program; a reply may go on in the middle of its last function.
    asked: names that the tests need; the prompt's last function where none is given. Of several programs the first is
    taken that defines them and needs nothing else, or else the first that defines them, behind what it needs from other
    pieces. Where nothing is asked for, or nothing defines it, the first program is taken.

    Line ends become newlines, tabs four blanks, and no-break spaces that begin a line blanks, inside strings too. What
    belongs to no answer is not looked at (a draft before `</think>`, what follows an end mark or a second
    "### Instruction"). A reply in which nothing parses is returned as it is, so that its verdict is the interpreter's.
    The work is bounded by the reply's length (parsing.py).
    """
    reply = reply.replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    reply = _NO_BREAK.sub(lambda blanks: " " * len(blanks[0]), _INVISIBLE.sub("", reply))
    text = _LANGUAGE.sub("", answer_in(reply))
    if not text.strip():
        return Extracted("", "empty")
    names = frozenset(asked) or frozenset(_FUNCTION.findall(prompt)[-1:])
    parser = Parser(len(text) + len(prompt))
    blocks = fenced_blocks(text, lambda source: parser.program(source) is not None)
    finder = Finder(prompt, names, parser)
    python = [block for block in blocks if block.language in PYTHON]
    others = [block for block in blocks if block.language not in PYTHON]

    best: tuple[int, Piece, Sequence[Piece]] | None = None
    for pieces in _ways(finder, python, text, others):
        for piece in pieces:
            if piece.is_program and (best is None or (names and _rank(piece, pieces, names) > best[0])):
                best = (_rank(piece, pieces, names), piece, pieces)
        if best and (best[0] >= _SOME or not names):
            break
    if best:
        return _finished(*best[1:], names)
    if blocks:
        return Extracted(blocks[0].text.strip("\n").rstrip(), "raw")
    announced = [part for part in ANNOUNCED.split(text)[1:] if part.strip()]
    return Extracted([*announced, text][0].strip(), "raw")


def begins_with_future(program: str) -> bool:
    """Return whether a line of `program` begins with an import from __future__, which nothing may stand before."""
    return bool(_FUTURE.search(program))


def _ways(finder: Finder, python: Sequence[Block], text: str, others: Sequence[Block]) -> Iterator[Sequence[Piece]]:
    """Yield the pieces of each way to read an answer, the likeliest first."""
    yield finder.whole(text)  # where all of it parses its fences stand in strings
    yield finder.in_blocks(python)
    yield from finder.in_plain(text)
    yield finder.in_blocks(others)


def _rank(piece: Piece, pieces: Sequence[Piece], asked: frozenset[str]) -> int:
    """Return how well a piece answers what is asked for."""
    bound = piece.binds & asked
    if not bound:
        return _NOTHING
    if bound <= piece.stubs:
        return _ANNOUNCES
    if bound != asked:
        return _SOME
    return _COMPLETE if len(pieces) == 1 or not piece.needs else _ALL


def _helpers(piece: Piece, pieces: Sequence[Piece], asked: frozenset[str]) -> list[Piece]:
    """Return the other pieces that bind what `piece`, or one of them, needs, in reading order."""
    helpers: list[Piece] = []
    binds, needs = piece.binds, piece.needs | (asked - piece.binds)
    # Another answer to the same question is the last to lend anything.
    lenders = sorted((other for other in pieces if not other.prompt), key=lambda other: bool(other.binds & asked))
    while other := next((one for one in lenders if one is not piece and one.binds & (needs - binds)), None):
        helpers.append(other)
        binds, needs = binds | other.binds, needs | other.needs
    return sorted(helpers, key=lambda other: other.place)


def _without_word(program: str) -> str:
    """Return a program without a word on its first line that names nothing: `python`, `Solution`."""
    word = _WORD.match(program)
    return program[word.end() :] if word and word[1] in needed_names(program) else program


def _finished(piece: Piece, pieces: Sequence[Piece], asked: frozenset[str]) -> Extracted:
    """Return the program of a piece: behind its helpers, and without examples."""
    helpers = _helpers(piece, pieces, asked) if len(pieces) > 1 else []
    program = piece.source if piece.prompt else _without_word(piece.source)
    rule, tree = piece.rule, piece.tree if program == piece.source and not helpers else None
    if helpers:
        parts = [without_examples(helper.source, asked=helper.binds & piece.needs) for helper in helpers]
        # A body must go on where the prompt stops; of others, what has a __future__ import must begin.
        ordered = [program, *parts] if piece.prompt else [*parts, program]
        parts = sorted(ordered, key=lambda part: not begins_with_future(part))
        program, rule = "\n\n".join(part.strip("\n") for part in parts), rule + JOINED
    shorter = without_examples(program, piece.prompt, asked, tree)
    return Extracted(shorter.strip("\n").rstrip(), rule + EXAMPLES * (shorter != program))
