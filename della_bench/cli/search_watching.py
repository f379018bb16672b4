"""How `della-bench search` shows its candidates: a live display to who watches a terminal, a line each to others."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING

from della_bench.cli.console import say
from della_bench.search.candidate import Candidate
from della_bench.search.plan import Plan
from della_bench.search.selection import interval_of
from della_bench.search.watching import SearchWatcher
from della_bench.visible import visible_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["LiveSearch", "SearchLines", "watching"]

_LONGEST_REASON = 120
_SHOWN = 8  # of the candidates that ended last


@contextmanager
def watching(on_terminal: bool, plan: Plan) -> Iterator[SearchWatcher]:
    """Yield what shows a search on stderr."""
    if not on_terminal:
        yield SearchLines(plan)
        return
    from rich.live import Live

    from della_bench.cli.terminal import Terminal

    shown = LiveSearch(plan)
    with Live(get_renderable=shown.render, console=Terminal(stderr=True), refresh_per_second=4):
        yield shown


class _Tally(SearchWatcher):
    """Counts candidates, and estimates when the last one will end."""

    def __init__(self, plan: Plan, now: Callable[[], float] = time.time) -> None:
        self._plan, self._now = plan, now
        self.counts: Counter[str] = Counter()
        self._took: list[float] = []
        self._trials = plan.settings.trials
        self.best: Candidate | None = None
        self._ended: set[int] = set()
        self._before: dict[str, float] = {}  # by candidate, the seconds that its other sets of items took

    def planned(self, trials: int | None, known: Sequence[Candidate]) -> None:
        """Count what an earlier start has evaluated."""
        for each in known:
            self._count(each)

    def began(self, candidate: Candidate, which: str, worker: str = "") -> None:
        """Take note of what the candidate has taken already."""
        self._before[candidate.spec.digest] = 0.0 if which == "search" else sum(candidate.seconds.values())

    def how(self, candidate: Candidate, which: str, value: float | None) -> str:
        """Return how a candidate ended, in words."""
        if candidate.state == "failed" and which == "search":
            reason = " ".join(candidate.reason.split())
            return f"failed: {reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + '...'}"
        took = f"{sum(candidate.seconds.values()) - self._before.get(candidate.spec.digest, 0.0):.1f} s"
        if candidate.state == "stopped" and which == "search":
            return f"stopped after {candidate.seen('search')} items, {took}"
        return f"{'–' if value is None else f'{value:.1f}'}, {took}"

    def ended(self, candidate: Candidate, which: str, value: float | None, best: Candidate | None) -> None:
        """Count a candidate."""
        self.best = best
        if which == "search":
            self._count(candidate)

    def _count(self, candidate: Candidate) -> None:
        if candidate.number is None or candidate.number in self._ended:
            return
        self._ended.add(candidate.number)
        self.counts[candidate.state] += 1
        self._took.append(candidate.took)

    @property
    def tried(self) -> str:
        """How many candidates have ended, and how."""
        of = f" of {self._trials}" if self._trials else ""
        states = [f"{self.counts[state]} {state}" for state in ("complete", "stopped", "failed") if self.counts[state]]
        return f"{sum(self.counts.values())}{of} candidates" + (f" ({', '.join(states)})" if states else "")

    def best_text(self) -> str:
        """Return the best candidate so far with its interval, "" where there is none."""
        goal = self._plan.settings.goal
        if self.best is None or goal.several:
            return ""
        values = self.best.values["search"]
        low, high = interval_of(goal.parts[0], values)
        value = goal.values({name: 100 * fmean(each) for name, each in values.items()})[0]
        return f"best {self.best.name}: {value:.1f} [{low:.1f}, {high:.1f}]"

    def end(self) -> str:
        """Return the estimated end of proposing in words, "" where nothing can be said."""
        left = (self._trials or 0) - sum(self.counts.values())
        if left <= 0 or not self._took:
            return ""
        seconds = left * fmean(self._took)
        form = "%H:%M" if seconds < 86_400 / 2 else "%a %d %b, %H:%M"
        return f"ends about {time.strftime(form, time.localtime(self._now() + seconds))}"


class SearchLines(_Tally):
    """A line on stderr for each candidate that has ended."""

    def ended(self, candidate: Candidate, which: str, value: float | None, best: Candidate | None) -> None:
        """Say how it ended."""
        super().ended(candidate, which, value, best)
        tried = sum(self.counts.values())
        count = f"[{tried}/{self._trials or '?'}] " if which == "search" and candidate.number is not None else ""
        parts = [
            f"{count}{candidate.name}, {which} {self.how(candidate, which, value)}",
            visible_line(str(candidate.spec)),
        ]
        if which == "search" and (text := self.best_text()):
            parts.append(text)
        if which == "search" and (end := self.end()):
            parts.append(end)
        say(visible_line("; ".join(parts)), err=True)

    def said(self, line: str) -> None:
        """Say it."""
        say(visible_line(line), err=True)


class LiveSearch(_Tally):
    """The candidates that ended last, the best one, and what each worker is at, with a bar."""

    def __init__(self, plan: Plan, now: Callable[[], float] = time.time) -> None:
        super().__init__(plan, now)
        self._last: list[tuple[Candidate, str, str]] = []  # the candidate, the set, and how it ended
        self._running: dict[str, tuple[Candidate, str]] = {}  # by worker: the candidate, and how far it is
        self._works: dict[str, tuple[str, int, int]] = {}  # by worker
        self._idle: Callable[[], Mapping[str, float]] = dict
        self._seconds: Counter[str] = Counter()

    def shared(self, idle: Callable[[], Mapping[str, float]]) -> None:
        """Show of each worker how much of its time it had nothing to do."""
        self._idle = idle

    def began(self, candidate: Candidate, which: str, worker: str = "") -> None:
        """Name what is under way."""
        super().began(candidate, which, worker)
        self._running[worker] = candidate, which
        self._works.pop(worker, None)

    def looked(self, candidate: Candidate, number: int, of: int, value: float, worker: str = "") -> None:
        """Say how far the candidate is."""
        self._running[worker] = candidate, f"block {number} of {of}, {value:.1f} so far"

    def working(self, what: str, done: int, total: int, worker: str = "") -> None:
        """Move the bar."""
        self._works[worker] = (what, done, total)

    def ended(self, candidate: Candidate, which: str, value: float | None, best: Candidate | None) -> None:
        """Put the candidate into the table."""
        super().ended(candidate, which, value, best)
        self._last = [*self._last, (candidate, which, self.how(candidate, which, value))][-_SHOWN:]
        if which == "search":
            self._seconds.update(candidate.seconds)
        for worker in [worker for worker, (each, _) in self._running.items() if each.spec == candidate.spec]:
            del self._running[worker]
            self._works.pop(worker, None)

    def render(self) -> Group:
        """Return the display as it is now, for rich."""
        from rich.console import Group
        from rich.text import Text

        from della_bench.cli.console import cut_to_fit, plain_table

        table = plain_table("candidate", "items", "how", "merge")
        for candidate, which, how in self._last:
            mark = " *" if self.best is not None and candidate.spec == self.best.spec else ""
            cells = (candidate.name + mark, which, how, candidate.spec.display_name)
            table.add_row(*map(cut_to_fit, cells))  # a line each: a display that grows and shrinks flickers
        spent = sum(self._seconds.values())
        shares = [f"{name} {100 * seconds / spent:.0f} %" for name, seconds in self._seconds.items() if spent]
        lines = [self.tried, self.best_text(), self.end(), "time: " + ", ".join(shares) if shares else ""]
        return Group(table, Text("; ".join(line for line in lines if line)), self._workers())

    def _workers(self) -> Table:
        """Return a row for each worker: a bar, and what it is at."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        from della_bench.cli.console import cut_to_fit

        idle = self._idle()
        grid = Table.grid(padding=(0, 1))
        for worker in sorted({*self._running, *idle}):
            what, done, total = self._works.get(worker, ("", 0, 0))
            parts = [f"{worker} ({idle[worker]:.0%} idle)" if worker in idle else worker]
            if (running := self._running.get(worker)) is not None:
                candidate, how_far = running
                parts += [f"{candidate.name}, {how_far}", f"{what} {done}/{total}" if total else ""]
                parts.append(candidate.spec.display_name)
            bar = ProgressBar(total=total, completed=done, width=30) if total else ""
            grid.add_row(bar, cut_to_fit(": ".join(part for part in parts if part)))
        return grid
