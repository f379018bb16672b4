"""A spec's values as JSON and YAML hold them, and as text."""

from __future__ import annotations

from typing import Any

from della_bench.spec.numbers import number_text
from della_bench.spec.own_keys import OwnValue
from della_bench.spec.varying import Value, Varying, text

__all__ = ["key_text", "one_for_all", "plain", "plain_option"]


def plain(value: Value) -> float | str:
    """Return a value as JSON and YAML hold it: what varies in its short form."""
    return text(value) if isinstance(value, Varying) else value


def plain_option(value: OwnValue) -> float | str | list[float | str]:
    """Return the value of a method's own key as JSON and YAML hold it."""
    return [plain(one) for one in value] if isinstance(value, tuple) else plain(value)


def one_for_all(values: list[float | str]) -> float | str | list[float | str] | None:
    """Return one value where all are equal, None where there is none."""
    return (values[0] if len(set(values)) == 1 else values) if values else None


def key_text(key: str, value: Any) -> str:
    """Return a plain value as the string form of a spec holds it."""
    if key in ("experts", "tokens", "slices"):
        return ("/" if key == "slices" else "+").join(value)
    if isinstance(value, list):
        return "+".join(key_text(key, one) for one in (value[:1] if len(set(value)) == 1 else value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return number_text(value)
    return str(value)
