"""Reading a solution's final number, and comparing it exactly: the judge that asks no model.

It reads what an answer announces, in one of FORMS, computes nothing and does not guess where nothing is announced. The
last announcement with a number counts, up to where a model that runs on makes up another question.

It is not the task's `answer-is` filter, whose numbers stay comparable between releases of lm-eval: it also reads
fractions, mixed numbers and words of magnitude, and takes what stands behind the last equals sign.

Reading takes time linear in the text, whatever it says: each announcement's line ends at the next announcement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from della_bench.thoughts import behind_thought

__all__ = ["FORMS", "Form", "announced_number", "before_next_question", "flexible_extract", "logged_match",
           "read_number", "reference_number", "strict_match"]  # fmt: skip


@dataclass(frozen=True)
class Form:
    """One way to announce an answer: what announces it, and an example.

    `strict`: it counts only where a short line with one number follows (behind its last equals sign, if it has one).
    "Answer:" often stands above a whole solution, in which nothing says which number is the answer.
    """

    name: str
    pattern: str
    example: str
    strict: bool = False


_MARKUP = r"[*_`]{0,3}"
FORMS = (
    Form("mark", r"\#{4}", "#### 5"),
    Form("sentence", r"\bthe\s{1,5}(?:final\s{1,5}|correct\s{1,5})?answer\s{1,5}is\b", "The final answer is 5."),
    Form("boxed", r"\\boxed\s?\{", r"\boxed{5}"),
    Form("answer", rf"\banswer{_MARKUP}\s?:", "**Answer:** 5", strict=True),
    Form("letter", rf"^[ \t]{{0,5}}{_MARKUP}A{_MARKUP}:", "A: 26", strict=True),
)
_ANNOUNCED = re.compile("|".join(f"(?P<{form.name}>{form.pattern})" for form in FORMS), re.IGNORECASE | re.MULTILINE)
_STRICT_FORMS = frozenset(form.name for form in FORMS if form.strict)

# A model that is not stopped goes on with a question of its own: these begin a line of it.
_NEXT_QUESTION = re.compile(
    rf"^[ \t]{{0,5}}(?:\#{{1,6}}\s?)?{_MARKUP}(?:(?:next\s)?(?:question|problem|exercise)|instruction|human|user|Q)"
    rf"(?:\s?\d{{1,3}})?{_MARKUP}\s?:",
    re.IGNORECASE | re.MULTILINE,
)
_SHORT_LINE = 40  # characters behind "Answer:"; a longer line is reasoning, whose numbers are steps
_LONGEST_NUMBER = 1000  # characters; Python refuses to read an integer of more than 4,300 digits
_MAGNITUDES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_MINUS = "[-\N{MINUS SIGN}]"
_NUMBER = re.compile(
    rf"""
    (?P<minus>(?<![\w.)])(?:{_MINUS}\s?|–(?=[\d$.])))?   # no hyphen in a word or a range, no dash before a blank
    (?:\\?[$€£¥₹]\s?)?                                  # \$ is how LaTeX writes it
    (?P<inner>(?<=[$€£¥₹]){_MINUS})?                    # $-5
    (?:
        (?:(?P<mixed>\d+)\s*)?\\[dt]?frac\{{(?P<above>{_DECIMAL})\}}\{{(?P<below>{_DECIMAL})\}}
      | (?P<whole>\d+)\s+(?P<top>\d+)\s?/\s?(?P<bottom>\d+)(?![\d/])      # 1 1/2
      | (?P<over>{_DECIMAL})\s?/\s?(?P<under>{_DECIMAL})(?![\d/])         # 3/4
      | (?P<plain>{_DECIMAL})
    )
    (?:\s+(?P<magnitude>hundred|thousand|million|billion|trillion)\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LATEX_NOISE = re.compile(r"\\(?:[,;!:]|text\{|mathrm\{|boxed\{|mathbf\{|left|right|\(|\)|\[|\])|\{,\}")


def announced_number(text: str) -> Fraction | None:
    """Return the number of the last announcement that has one, up to the next question; None where none has.

    It stands on the announcement's line, behind the last equals sign where there is one with a number behind it. What
    the model thought before it answered (`<think>`) announces nothing.
    """
    last = None
    for _, number in _announced(before_next_question(behind_thought(text))):
        last = number
    return last


def before_next_question(text: str) -> str:
    """Return `text` up to where a model that ran on began a new question: a line with one of _NEXT_QUESTION's words.

    Such a line is one where it stands behind an announced number, or behind a blank line. A question that opens the
    text is none, nor is one that is repeated on the way to the first answer.
    """
    begins = len(text) - len(text.lstrip())
    answered = next((place for place, _ in _announced(text)), len(text))
    for question in _NEXT_QUESTION.finditer(text, begins + 1):
        start = question.start()
        behind_blank_line = text[max(0, start - 8) : start].replace(" ", "").endswith("\n\n")
        if start > answered or behind_blank_line:
            return text[:start]
    return text


def _announced(text: str) -> Iterator[tuple[int, Fraction]]:
    """Yield (place, number) of each announcement with a number, in order. Each part of the text is searched once."""
    announcements = list(_ANNOUNCED.finditer(text))
    starts = [*(announcement.start() for announcement in announcements), len(text)]
    for announcement, end in zip(announcements, starts[1:], strict=True):
        behind = text[announcement.end() : end]
        strict = announcement.lastgroup in _STRICT_FORMS
        line = _in_braces(behind) if announcement["boxed"] else behind.lstrip(" \t:*_\n").partition("\n")[0]
        if strict and not _is_one_number(line):
            continue
        number = read_number(line.rpartition("=")[2])
        if number is None:
            number = read_number(line)
        if number is not None:
            yield announcement.start(), number


def _in_braces(text: str) -> str:
    """Return what stands before the brace that closes one opened before `text`."""
    depth = 1
    for brace in re.finditer(r"[{}]", text):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[: brace.start()]
    return text


def _is_one_number(line: str) -> bool:
    """Return whether a line holds a number and little else, so that no other one can be meant."""
    if len(line.strip()) > _SHORT_LINE:
        return False
    return len(_NUMBER.findall(_plain(line.rpartition("=")[2]))) == 1


def reference_number(target: str) -> Fraction | None:
    """Return the number of a reference solution: the announced one, else the last number in it."""
    if (number := announced_number(target)) is not None:
        return number
    matches = list(_NUMBER.finditer(_plain(target)))
    return _value(matches[-1]) if matches else None


def read_number(text: str) -> Fraction | None:
    """Return the first number in `text`, exactly; None where there is none.

    Currency signs, thousands commas, units behind it, percent signs, fractions (3/4, 1 1/2, \\frac{3}{4}), decimals and
    words of magnitude (2 million) are understood.
    """
    match = _NUMBER.search(_plain(text))
    return _value(match) if match else None


def _plain(text: str) -> str:
    return _LATEX_NOISE.sub(lambda noise: "," if noise[0] == "{,}" else " ", text)


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > _LONGEST_NUMBER:
        return None

    def number(name: str) -> Fraction:
        return Fraction((match[name] or "0").replace(",", ""))

    parts = ("above", "below") if match["above"] else ("top", "bottom") if match["top"] else ("over", "under")
    if match["plain"]:
        value = number("plain")
    elif not number(parts[1]):
        return None  # nothing over nought
    else:
        value = number("mixed") + number("whole") + number(parts[0]) / number(parts[1])
    if match["magnitude"]:
        value *= _MAGNITUDES[match["magnitude"].lower()]
    return -value if match["minus"] or match["inner"] else value


# What the task's two older filters read, for answers that no lm-eval run has scored; the expressions are the task's.
_STRICT = re.compile(r"The answer is: (\-?[0-9\.\,]+).")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def strict_match(response: str, target: str) -> bool:
    """Return whether the task's `strict-match` filter and its metric would call the response right."""
    match = _STRICT.search(response)
    return logged_match(match[1] if match else "[invalid]", target)


def flexible_extract(response: str, target: str) -> bool:
    """Return whether the task's `flexible-extract` filter and its metric would call the response right."""
    matches = list(_FLEXIBLE.finditer(response))
    return logged_match(matches[-1][0] if matches else "[invalid]", target)


def logged_match(answer: str, target: str) -> bool:
    """Return lm-eval's `exact_match` of a filter's answer with the target, as the task sets it up."""
    sides = []
    for side in (answer, target):
        plain = (
            side.replace(",", "").replace("$", "").rpartition("#### ")[2]
        )  # the task's `(?s).*#### `, in linear time
        sides.append(re.sub(r"\.$", "", plain).lower())
    return sides[0] == sides[1]
