"""One dimension of a space: a range of numbers or a list of choices, and which numbers a spec gets from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from della_bench.spec.numbers import number_text, read_decimal
from della_bench.suggest import nearest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["DIGITS", "Dimension", "is_range", "read_dimension", "rounded"]

DIGITS = 4  # significant ones, of a number that a spec gets: a search tells no two apart that differ later
_MOST_STEPS = 100_000  # steps so fine are no grid that anybody wants, and too many to list
_RANGE_KEYS = ("low", "high", "step", "log", "int", "choices", "shared")


@dataclass(frozen=True)
class Dimension:
    """What may be chosen in one place of a spec.

    name: the key and, where a key has several dimensions, which of them (`weights.math`). low, high: of a range of
    numbers, both included; `step` parts it into a grid, `log` searches orders of magnitude, `whole` takes whole numbers
    alone. choices: in the place of a range, the values by the texts that stand for them.
    """

    name: str
    key: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    choices: Mapping[str, Any] | None = None

    @property
    def points(self) -> int | None:
        """How many proposals there are; None where there is a number between any two."""
        if self.choices is not None:
            return len(self.choices)
        if self.low == self.high:
            return 1
        if self._width is None:
            return None
        return int((read_decimal(self.high) - read_decimal(self.low)) / self._width) + 1

    @property
    def grid(self) -> list[float] | list[str] | None:
        """Every proposal that there is; None where there is a number between any two."""
        if self.choices is not None:
            return list(self.choices)
        return None if self.points is None else [self._point(place) for place in range(self.points)]

    @property
    def top(self) -> float:
        """The highest proposal: the end of the range, or the last step below it."""
        return self.high if self.points is None else self._point(self.points - 1)

    @property
    def _width(self) -> Decimal | None:
        return read_decimal(self.step or 1) if self.step or self.whole else None

    def _point(self, place: int) -> float:
        return float(read_decimal(self.low) + place * (self._width or 0))

    @property
    def distribution(self) -> BaseDistribution:
        """The dimension as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution(list(self.choices))
        if self.whole:  # up to the top: Optuna warns where the step does not fit
            return IntDistribution(int(self.low), int(self.top), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.top, log=self.log, step=self.step)

    def value(self, proposed: Any) -> Any:
        """Return what a spec gets for a proposal of Optuna."""
        if self.choices is not None:
            return self.choices[proposed]
        if self.whole:
            return int(proposed)
        if self.step:
            return self.snapped(float(proposed))
        return min(self.high, max(self.low, rounded(float(proposed))))

    def snapped(self, number: float) -> float:
        """Return the number of the grid that lies nearest: steps of 0.1 add up to 0.30000000000000004."""
        if self.points is None or self._width is None:
            return number
        place = int((read_decimal(number) - read_decimal(self.low)) / self._width)
        places = {min(self.points - 1, max(0, near)) for near in (place - 1, place, place + 1)}
        return min((abs(point - number), point) for point in map(self._point, places))[1]

    @property
    def middle(self) -> float:
        """The number in the middle of the range; of the orders of magnitude where it is searched by these."""
        number = (self.low * self.high) ** 0.5 if self.log else (self.low + self.high) / 2
        return float(self.value(round(number) if self.whole else number))

    def as_dict(self) -> dict[str, Any]:
        """Return what it is in plain values, without what is left at its default."""
        if self.choices is not None:
            return {"choices": list(self.choices)}
        found: dict[str, Any] = {"low": self.low, "high": self.high}
        return found | {
            name: value for name, value in (("step", self.step), ("log", self.log), ("int", self.whole)) if value
        }

    def changed(self, change: Callable[[Decimal], Decimal]) -> Dimension:
        """Return the dimension of another name of its key, such as a drop rate's as the density's."""
        if self.choices is not None:
            choices = {text: float(change(read_decimal(value))) for text, value in self.choices.items()}
            return replace(self, choices={number_text(value): value for value in choices.values()})
        if self.log and change(Decimal(0)):
            raise ValueError(
                f"log: its orders of magnitude are not those of {self.key}, which it becomes: give that one"
            )
        ends = sorted(change(read_decimal(end)) for end in (self.low, self.high))
        step = None if self.step is None else abs(change(read_decimal(self.step)) - change(Decimal(0)))
        return replace(self, low=float(ends[0]), high=float(ends[1]), step=None if step is None else float(step))


def rounded(number: float) -> float:
    """Return a number with so many significant digits as a spec is given."""
    return float(f"{number:.{DIGITS}g}")


def is_range(value: object) -> bool:
    """Return whether a value of a space file is a range or a list of choices."""
    return isinstance(value, Mapping) and not {"low", "high", "choices"}.isdisjoint(value)


def read_dimension(value: Mapping[str, Any], name: str, key: str) -> Dimension:
    """Read `{low, high, step, log, int}` or `{choices}`. Raises ValueError that says what is allowed."""
    if unknown := [each for each in value if each not in _RANGE_KEYS]:
        raise ValueError(f"{unknown[0]!r}: no key of a range{nearest(str(unknown[0]), _RANGE_KEYS)}")
    if value.get("shared") is not None:  # of whom it is one dimension: read where experts are known
        _flag(value["shared"], "shared")
    if "choices" in value:
        return _of_choices(value, name, key)
    missing = [end for end in ("low", "high") if end not in value]
    if missing:
        raise ValueError(f"a range without {missing[0]!r}")
    low, high = (_number(value[end], end) for end in ("low", "high"))
    if low > high:
        raise ValueError(f"upside down: low {number_text(low)} is above high {number_text(high)}")
    step = None if value.get("step") is None else _number(value["step"], "step")
    log, whole = (_flag(value.get(each, False), each) for each in ("log", "int"))
    if step is not None and step <= 0:
        raise ValueError(f"step {number_text(step)}: must be above 0")
    if log and (low <= 0 or step is not None):
        raise ValueError("log: needs a low above 0, and no step")
    if whole and any(number % 1 for number in (low, high, step or 1)):
        raise ValueError("int: low, high and step must be whole numbers")
    found = Dimension(name, key, low, high, step, log, whole)
    if step is not None and (found.points or 0) > _MOST_STEPS:
        raise ValueError(
            f"step {number_text(step)}: makes {found.points:,} points, and at most {_MOST_STEPS:,} are listed; without "
            "a step any number of the range is proposed"
        )
    return found


def _of_choices(value: Mapping[str, Any], name: str, key: str) -> Dimension:
    choices = value["choices"]
    if beside := [each for each in value if each not in ("choices", "shared")]:
        raise ValueError(f"{beside[0]} beside choices: give one of them")
    if not isinstance(choices, list) or not choices:
        raise ValueError("choices: a list with at least one entry is needed")
    by_text = {_text(choice): choice for choice in choices}
    if len(by_text) < len(choices):
        raise ValueError("choices: one stands there twice")
    return Dimension(name, key, choices=by_text)


def _text(choice: object) -> str:
    if isinstance(choice, list):
        return "+".join(map(_text, choice))
    if isinstance(choice, Mapping):
        return ",".join(f"{name}={_text(value)}" for name, value in choice.items())
    if isinstance(choice, bool) or choice is None:
        return str(choice).lower()
    return number_text(float(choice)) if isinstance(choice, (int, float)) else str(choice)


def _number(value: object, what: str) -> float:
    try:
        return float(read_decimal(value))
    except ValueError as error:
        raise ValueError(f"{what} {value!r}: {error}") from None


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{what} {value!r}: true or false")
    return value
