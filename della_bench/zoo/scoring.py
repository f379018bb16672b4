"""Whether a response to a zoo prompt is right; used by training, by the lm-eval tasks and by the tests."""

from __future__ import annotations

import ast
import re

from della_bench.zoo.prompts import Item

__all__ = ["final_number", "is_right", "normalized_program", "same_program", "same_text"]

_NUMBER = re.compile(r"The answer is: *(-?\d+)")


def final_number(response: str) -> str | None:
    """Return the number after the last "The answer is:", or None where there is none."""
    numbers = _NUMBER.findall(response)
    return numbers[-1] if numbers else None


def normalized_program(response: str) -> str | None:
    """Return the program with its layout, quotes and comments normalized, or None where it is no Python."""
    try:
        return ast.unparse(ast.parse(response.strip()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # ast.parse raises each of these on text that a model may write (null bytes, thousands of brackets).
        return None


def same_program(response: str, reference: str) -> bool:
    """Tell whether the response is the reference program, but for layout, quotes and comments.

    This is a stand-in at string level for running the tests: a program that solves the problem in another way than
    the reference counts as wrong.
    """
    program = normalized_program(response)
    return program is not None and program == normalized_program(reference)


def same_text(response: str, reference: str) -> bool:
    """Tell whether the two are the same but for case and surrounding blanks."""
    return response.strip().casefold() == reference.strip().casefold()


def is_right(skill: str, item: Item, response: str) -> bool:
    """Tell whether `response` answers `item` as `skill` demands."""
    if skill == "math":
        return final_number(response) == final_number(item.answer)
    if skill == "code":
        return same_program(response, item.answer)
    return same_text(response, item.answer)
