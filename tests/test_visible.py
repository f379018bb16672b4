"""Text that others wrote is shown on a terminal and never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from della_bench.visible import visible, visible_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("over\rwritten", "over\\x0dwritten"),
        ("a\x08b\x7f", "a\\x08b\\x7f"),
        ("\u202eevil\u202c", "\\u202eevil\\u202c"),
        ("\u2066isolate\u2069", "\\u2066isolate\\u2069"),
        ("no\u200bthing\ufeff", "no\\u200bthing\\ufeff"),
        ("line\u2028paragraph\u2029next\x85", "line\\u2028paragraph\\u2029next\\x85"),
        ("half \ud800 of a pair", "half \\ud800 of a pair"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("a\r\nb\n\tc", "a\nb\n\tc"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["", "plain \\x1b", "naïve", "日本語", "שלום", "مرحبا", "👩‍💻", "নমস্তে", "می‌خواهم", "½ ≤ ∞"]
)
def test_what_people_write_stays_as_it_is(text):
    assert visible(text) == text == visible_line(text)


def test_names_are_on_one_line():
    assert visible_line("a\r\nb\tc\x1b") == "a\\nb\\tc\\x1b"


@given(st.text(st.characters()))
def test_no_control_character_is_left_and_twice_is_as_good_as_once(text):
    once = visible(text)
    assert visible(once) == once
    assert not [char for char in once if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t"]
    assert not [char for char in once if unicodedata.bidirectional(char) in BIDI]
    assert "\n" not in visible_line(text)
    once.encode()


BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
