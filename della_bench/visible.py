"""Text that others wrote, made safe to be shown: on a terminal, in a log, in a message.

Models, files and programs write such text. A terminal obeys what is in it: an escape sequence repaints the screen, sets
the window's title or answers as if somebody had typed, a carriage return writes over what stood before, and characters
that turn the direction of writing show a line in another order than it has.
"""

from __future__ import annotations

import re

__all__ = ["visible", "visible_line"]

# C0 and C1 controls but tab and newline; marks, embeddings, overrides and isolates of direction; separators that some
# programs take for a line's end; blanks and operators without width but the joiners that scripts and emoji need; tags;
# halves of surrogate pairs, which cannot be written at all.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return `text` with every character that a terminal would obey written out, such as \\x1b or \\u202e.

    Lines stay lines (a carriage return before a newline is part of it), tabs stay tabs, and everything else is shown as
    it is. What was made visible once stays as it is.
    """
    return _CONTROLS.sub(_written_out, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """Return `text` as `visible` does, on one line: newlines and tabs are written out, too. For names and titles."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
