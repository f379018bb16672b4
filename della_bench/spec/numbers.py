"""Numbers as specs write and read them."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from numbers import Real

__all__ = ["number_text", "plain", "read_decimal"]


def read_decimal(value: object) -> Decimal:
    """Read a finite number as the Decimal of its shortest representation, so that 1 - 0.9 is 0.1."""
    if isinstance(value, bool) or not isinstance(value, (Real, str, Decimal)):
        raise ValueError("not a number")
    try:  # a number of numpy's writes itself as short as one of Python's
        number = Decimal(value if isinstance(value, (int, str, Decimal)) else str(value))
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not number.is_finite() or math.isinf(float(number)):
        raise ValueError("not a finite number")
    return number


def plain(number: Decimal) -> float:
    """Return a number as a float, and -0 as 0."""
    return float(number) + 0.0


def number_text(value: float) -> str:
    """Write a number so that it parses back to itself and holds no character of the spec's syntax."""
    text = repr(value)
    return text.removesuffix(".0").replace("e+", "e")
