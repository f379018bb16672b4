"""What the task's YAML cannot say: where its data come from, and how a reply's final number is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import datasets

from della_bench import data

INVALID = "[invalid]"  # lm-eval's own mark for a reply in which nothing was found

# Case does not matter, nor what markup stands between the phrase and the number.
_PHRASE = re.compile(r"\bthe\s+(?:final\s+)?answer\s+is\b[\s:*_]*", re.IGNORECASE)

_NUMBER = re.compile(
    r"""
    (?P<minus>(?<!\w)[-\N{MINUS SIGN}])?            # no hyphen in a word; a bullet has a space behind it
    (?:\\?[$€£¥]\ ?)?                               # \$ is how LaTeX writes it
    (?P<inner_minus>(?<=[$€£¥])[-\N{MINUS SIGN}])?  # $-5
    (?P<whole>\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)|\d+|(?=\.\d))
    (?P<decimals>\.\d+)?
    """,
    re.VERBOSE,
)


def load(**_: Any) -> dict[str, datasets.Dataset]:
    """Return GSM8K's test problems. lm-eval hands over metadata and the model's arguments; none of them matters here.

    Raises della_bench.errors.DataError where the data are not to be had.
    """
    return {"test": data.load("gsm8k")}


def load_train(**_: Any) -> dict[str, datasets.Dataset]:
    """Return GSM8K's training problems. Raises della_bench.errors.DataError where the data are not to be had."""
    return {"train": data.load("gsm8k", "train")}


def examples() -> list[dict[str, Any]]:
    """Return the training problems, for few-shot examples; none where they are not to be had."""
    return data.examples("gsm8k")


def answer_is(replies: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Filter: each reply's final number by `final_number`, or "[invalid]"."""
    return [[final_number(reply) or INVALID for reply in of_one_doc] for of_one_doc in replies]


def final_number(reply: str) -> str | None:
    """Return the number behind the last "The answer is" that has one on its line, or None.

    Numbers that are equal come out equal: no currency sign, no thousands commas, no leading or trailing zeros.
    """
    for phrase in reversed(list(_PHRASE.finditer(reply))):
        line = reply[phrase.end() :].partition("\n")[0]
        if number := _NUMBER.search(line):
            return _plain(number)
    return None


def _plain(number: re.Match[str]) -> str:
    whole = number["whole"].replace(",", "").lstrip("0") or "0"
    digits = (whole + (number["decimals"] or "").rstrip("0")).removesuffix(".")
    negative = bool(number["minus"] or number["inner_minus"]) and digits != "0"
    return "-" + digits if negative else digits
