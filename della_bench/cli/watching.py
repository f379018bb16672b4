"""How `della-bench run` shows its steps: a live table to who watches a terminal, a line a step to everybody else."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import TYPE_CHECKING

from della_bench.cli.console import say
from della_bench.results.formats import number_text
from della_bench.run.watching import Ended, Step, Watcher
from della_bench.visible import visible_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from della_bench.run.options import Money

__all__ = ["LiveTable", "StepLines", "watching"]

_LONGEST_REASON = 120
_OTHER_LINES = 8  # of the terminal, that the live table leaves free


@contextmanager
def watching(on_terminal: bool, money: Money) -> Iterator[Watcher]:
    """Yield what shows a run's steps on stderr."""
    if not on_terminal:
        yield StepLines()
        return
    from rich.live import Live

    from della_bench.cli.terminal import Terminal

    table = LiveTable(money)
    with Live(get_renderable=table.render, console=Terminal(stderr=True), refresh_per_second=4):
        yield table


class _Clock(Watcher):
    """Counts steps, and estimates when the last one will end: each takes as long as its like have taken."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._left: list[Step] = []
        self.total = 0
        self._seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._evaluating: list[Step] = []
        self._beside = 1  # evaluations at once, with several workers

    @property
    def count(self) -> int:
        """The steps that have ended."""
        return self.total - len(self._left)

    def planned(self, steps: Sequence[Step]) -> None:
        """Take the steps that are to come."""
        self._left, self.total = list(steps), len(steps)

    def began(self, step: Step) -> None:
        """Count what goes on beside each other."""
        if step.what == "evaluate" and step not in self._evaluating:  # one whose worker was lost begins again
            self._evaluating.append(step)
            self._beside = max(self._beside, len(self._evaluating))

    def ended(self, step: Step, how: Ended) -> None:
        """Count a step, and remember how long it took where it was done."""
        if step in self._evaluating:
            self._evaluating.remove(step)
        if step in self._left:
            self._left.remove(step)
        if how.how == "done":
            self._seconds[step.benchmark.name, step.what].append(how.seconds)

    def end(self) -> str:
        """Return the estimated end in words, "" where nothing can be said."""
        every = [seconds for many in self._seconds.values() for seconds in many]
        if not self._left or not every:
            return ""
        left = sum(fmean(self._seconds.get((step.benchmark.name, step.what)) or every) for step in self._left)
        now = self._now()
        form = "%H:%M" if left < 86_400 / 2 else "%a %d %b, %H:%M"
        return f"ends about {time.strftime(form, time.localtime(now + left / self._beside))}"


class StepLines(_Clock):
    """A line on stderr for each step that has ended."""

    def ended(self, step: Step, how: Ended) -> None:
        """Say what was done, and when the run will end."""
        super().ended(step, how)
        what = "evaluated" if step.what == "evaluate" else f"scored by {step.what}"
        if how.scores:
            what += ": " + ", ".join(number_text(score["value"], score["interval"]) for score in how.scores)
        took = {"known": "known already", "done": f"{how.seconds:.1f} s", "failed": "failed"}[how.how]
        if how.how == "failed":
            what = f"{step.what} failed: {_short(how.reason)}"
        line = f"[{self.count}/{self.total}] {step.spec.display_name}, {step.benchmark.name} {what}"
        parts = [line, *([took] if how.how != "failed" else []), *([end] if (end := self.end()) else [])]
        say(visible_line("; ".join(parts)), err=True)


class LiveTable(_Clock):
    """A table of models and benchmarks that fills up, with a bar of what each worker is at."""

    def __init__(self, money: Money) -> None:
        """`money` is what the run's judges spend."""
        super().__init__()
        self._money = money
        self._rows: dict[str, dict[str, str]] = {}  # by folder's name: the model, and a cell a benchmark
        self._benchmarks: list[str] = []
        self._current: Step | None = None
        self._works: dict[str, tuple[str, int, int]] = {}  # by worker, "" where there is one alone
        self._idle: Callable[[], Mapping[str, float]] = dict

    def planned(self, steps: Sequence[Step]) -> None:
        """Make a row for each model."""
        super().planned(steps)
        for step in steps:
            self._rows.setdefault(step.spec.file_name, {"": step.spec.display_name})
        self._benchmarks = list(dict.fromkeys(step.benchmark.name for step in steps))

    def shared(self, idle: Callable[[], Mapping[str, float]]) -> None:
        """Show of each worker how much of its time it had nothing to do."""
        self._idle = idle

    def began(self, step: Step) -> None:
        """Mark a step's cell."""
        super().began(step)
        self._current = step
        self._works.pop("", None)
        self._rows.setdefault(step.spec.file_name, {"": step.spec.display_name})[step.benchmark.name] = f"{step.what} …"

    def working(self, what: str, done: int, total: int, worker: str = "") -> None:
        """Move the bar of a worker; one that has nothing to do has none."""
        if total:
            self._works[worker] = (what, done, total)
        else:
            self._works.pop(worker, None)

    def ended(self, step: Step, how: Ended) -> None:
        """Put what came out into the cell."""
        super().ended(step, how)
        row = self._rows.setdefault(step.spec.file_name, {"": step.spec.display_name})
        if how.how == "failed":
            row[step.benchmark.name] = f"{step.what} failed"
        elif how.scores:
            row[step.benchmark.name] = number_text(how.scores[-1]["value"], how.scores[-1]["interval"])
        else:
            row[step.benchmark.name] = "answered"

    def render(self) -> Group:
        """Return the table as it is now, for rich."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        idle = self._idle()
        for worker in sorted({*self._works, *idle}) if self._left else ():
            what, done, total = self._works.get(worker, ("", 0, 0))
            share = f" ({idle[worker]:.0%} idle)" if worker in idle else ""
            parts = [worker + share, f"{what} {done}/{total}" if total else ""]
            bar = ProgressBar(total=total, completed=done, width=30) if total else ""
            grid.add_row(bar, visible_line(": ".join(part for part in parts if part)))
        spent = f", ${self._money.spent:.2f} spent" if self._money.spent else ""
        end = f", {self.end()}" if self.end() else ""
        return Group(self._table(), f"{self.count} of {self.total} steps{spent}{end}", grid)

    def _table(self) -> Table:
        from della_bench.cli.console import plain_table
        from della_bench.cli.terminal import Terminal

        table = plain_table("model", *self._benchmarks)
        room = max(3, Terminal(stderr=True).height - _OTHER_LINES)
        names = list(self._rows)
        at = names.index(self._current.spec.file_name) if self._current else 0
        first = max(0, min(at - room // 2, len(names) - room))
        for name in names[first : first + room]:
            row = self._rows[name]
            table.add_row(visible_line(row[""]), *(visible_line(row.get(each, "")) for each in self._benchmarks))
        return table


def _short(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."
