"""What all judges share of a command: which server, how fast, for how much money, and where answers are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from della_bench.judging.cache import Cache, default_cache_path
from della_bench.judging.client import Client
from della_bench.judging.cost import Budget, Price
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.server import Server

__all__ = ["JudgeSettings"]


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge's model is asked.

    model: another name to ask for than the judge's own; on Azure the deployment's. max_cost: dollars that this run may
    spend. cache: the file of answers, None for the default. retry_unscored: ask again where an earlier run found no
    verdict. resume: keep what an earlier run settled; else it is settled anew, out of the same cache. batch:
    through the server's batch interface, at half price and within a day. spent: is told what is spent, as it is.
    """

    server: Server = field(default_factory=Server)
    model: str | None = None
    limits: Limits = field(default_factory=Limits)
    max_cost: Decimal | float | None = None
    cache: Path | None = None
    retry_unscored: bool = False
    resume: bool = True
    batch: bool = False
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    spent: Callable[[Decimal], None] | None = None

    @property
    def cache_path(self) -> Path:
        """The file of answers."""
        return self.cache or default_cache_path()

    def open_cache(self) -> Cache:
        """Open the file of answers; a context manager."""
        return Cache(self.cache_path)

    def budget(self, price: Price | None) -> Budget:
        """Return what may be spent. Raises JudgeError where there is a limit and no price to hold against it."""
        return Budget(self.max_cost, price, self.spent)

    def client(self, cache: Cache, price: Price | None) -> Client:
        """Return the client; an async context manager."""
        return Client(self.server, cache, self.budget(price), self.limits, self.retry_policy)
