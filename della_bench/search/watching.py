"""What a search tells of itself as it goes on, for whoever shows it."""

from __future__ import annotations

from collections.abc import Sequence

from della_bench.search.candidate import Candidate

__all__ = ["SearchWatcher"]


class SearchWatcher:
    """Is told how a search goes on; each method does nothing until a class that shows it overrides it."""

    def planned(self, trials: int | None, known: Sequence[Candidate]) -> None:
        """How many candidates there will be at most, and which have been evaluated by an earlier start."""

    def began(self, candidate: Candidate, which: str) -> None:
        """A candidate is asked the items of a set."""

    def looked(self, candidate: Candidate, number: int, of: int, value: float) -> None:
        """After a block: which one of how many, and the candidate's value so far."""

    def ended(self, candidate: Candidate, which: str, value: float | None, best: Candidate | None) -> None:
        """A candidate has ended; `best` is the best one so far."""

    def working(self, what: str, done: int, total: int) -> None:
        """Within a candidate: so much is done of merging, of answering."""

    def said(self, line: str) -> None:
        """A line for people."""
