"""What judges have spent in a search, over all its starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import read_json, write_json
from della_bench.run.options import Money

__all__ = ["KeptMoney"]


@dataclass
class KeptMoney(Money):
    """Money whose spending is written down as it happens, so that a search that was killed knows of it."""

    path: Path = field(default=Path("money.json"))

    @classmethod
    def open(cls, path: Path) -> KeptMoney:
        """Return what was spent as the file has it. Raises DataError where it is broken: nobody knows what is left."""
        if not path.is_file():
            return cls(path=path)
        try:
            spent = Decimal(str(read_json(path)["spent"]))
        except (KeyError, TypeError, ArithmeticError):
            spent = Decimal("nan")
        if not spent.is_finite() or spent < 0:
            raise DataError(f'{path}: does not say what judges have spent; write it as {{"spent": "1.50"}}')
        return cls(spent, path)

    def spend(self, amount: Decimal) -> None:
        """Count what was spent, and write it down."""
        super().spend(amount)
        write_json(self.path, {"spent": str(self.spent)})
