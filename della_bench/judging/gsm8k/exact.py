"""Reading a solution's final number, and comparing it exactly: the judge that asks no model.

It reads what an answer announces ("####", "The answer is"), computes nothing and does not guess where nothing is
announced. It is not the task's `answer-is` filter, whose numbers stay comparable between releases of lm-eval: it also
reads fractions, mixed numbers and words of magnitude, and takes what stands behind the last equals sign.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["announced_number", "flexible_extract", "logged_match", "read_number", "reference_number", "strict_match"]

_ANNOUNCED = re.compile(r"####|\bthe\s+(?:final\s+)?answer\s+is\b", re.IGNORECASE)
_MAGNITUDES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)"
_MINUS = "[-\N{MINUS SIGN}]"
_NUMBER = re.compile(
    rf"""
    (?P<minus>(?<![\w.)]){_MINUS}\s?)?                  # no hyphen in a word or a range
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
    """Return the number that stands on the line of the last announcement which has one; None where none has.

    Behind the last equals sign of that line, where there is one with a number behind it.
    """
    for announcement in reversed(list(_ANNOUNCED.finditer(text))):
        line = text[announcement.end() :].lstrip(" \t:*_\n").partition("\n")[0]
        number = read_number(line.rpartition("=")[2])
        if number is None:
            number = read_number(line)
        if number is not None:
            return number
    return None


def reference_number(target: str) -> Fraction | None:
    """Return the number of a reference solution: behind its last "####", else the last number in it."""
    if (number := announced_number(target)) is not None:
        return number
    found = list(_NUMBER.finditer(_plain(target)))
    return _value(found[-1]) if found else None


def read_number(text: str) -> Fraction | None:
    """Return the first number in `text`, exactly; None where there is none.

    Currency signs, thousands commas, units behind it, percent signs, fractions (3/4, 1 1/2, \\frac{3}{4}), decimals and
    words of magnitude (2 million) are understood.
    """
    found = _NUMBER.search(_plain(text))
    return _value(found) if found else None


def _plain(text: str) -> str:
    return _LATEX_NOISE.sub(lambda noise: "," if noise[0] == "{,}" else " ", text)


def _value(found: re.Match[str]) -> Fraction | None:
    def number(name: str) -> Fraction:
        return Fraction((found[name] or "0").replace(",", ""))

    parts = ("above", "below") if found["above"] else ("top", "bottom") if found["top"] else ("over", "under")
    if found["plain"]:
        value = number("plain")
    elif not number(parts[1]):
        return None  # nothing over nought
    else:
        value = number("mixed") + number("whole") + number(parts[0]) / number(parts[1])
    if found["magnitude"]:
        value *= _MAGNITUDES[found["magnitude"].lower()]
    return -value if found["minus"] or found["inner"] else value


# What the task's two older filters read, for answers that no lm-eval run has scored; the expressions are the task's.
_STRICT = re.compile(r"The answer is: (\-?[0-9\.\,]+).")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = tuple(re.compile(pattern) for pattern in (",", r"\$", r"(?s).*#### ", r"\.$"))


def strict_match(response: str, target: str) -> bool:
    """Return whether the task's `strict-match` filter and its metric would call the response right."""
    found = _STRICT.search(response)
    return logged_match(found[1] if found else "[invalid]", target)


def flexible_extract(response: str, target: str) -> bool:
    """Return whether the task's `flexible-extract` filter and its metric would call the response right."""
    found = list(_FLEXIBLE.finditer(response))
    return logged_match(found[-1][0] if found else "[invalid]", target)


def logged_match(answer: str, target: str) -> bool:
    """Return lm-eval's `exact_match` of a filter's answer with the target, as the task sets it up."""
    for pattern in _IGNORED:
        answer, target = pattern.sub("", answer), pattern.sub("", target)
    return answer.lower() == target.lower()
