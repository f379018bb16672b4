"""What a search tells of itself as it goes on, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from della_bench.search.candidate import Candidate

__all__ = ["SearchWatcher"]


class SearchWatcher:
    """Is told how a search goes on; each method does nothing until a class that shows it overrides it."""

    def planned(self, trials: int | None, known: Sequence[Candidate]) -> None:
        """How many candidates there will be at most, and which have been evaluated by an earlier start."""

    def shared(self, idle: Callable[[], Mapping[str, float]]) -> None:
        """Several workers do it; `idle` gives by a worker's name the share of its time that it had nothing to do in."""

    def began(self, candidate: Candidate, which: str, worker: str = "") -> None:
        """A candidate is asked the items of a set; `worker` names who does it, where there are several."""

    def looked(self, candidate: Candidate, number: int, of: int, value: float, worker: str = "") -> None:
        """After a block: which one of how many, and the candidate's value so far."""

    def ended(self, candidate: Candidate, which: str, value: float | None, best: Candidate | None) -> None:
        """A candidate has ended; `best` is the best one so far."""

    def working(self, what: str, done: int, total: int, worker: str = "") -> None:
        """Within a candidate: so much is done of merging, of answering."""

    def said(self, line: str) -> None:
        """A line for people."""
