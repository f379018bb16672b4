"""What a run would do: its settings by benchmark, first prompts, steps and costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from della_bench.errors import DataError
    from della_bench.run.runner import Planned, Runner
    from della_bench.spec import MergeSpec

__all__ = ["show_plan", "show_settings"]


def show_settings(runner: Runner, models: Sequence[MergeSpec]) -> list[DataError]:
    """Print the settings in force, a benchmark at a time, and its first prompt as the first model would see it.

    Returns what is wrong with the benchmarks' data, where a first prompt could not be had for that.
    """
    from della_bench.cli.console import say
    from della_bench.errors import DataError, DellaBenchError

    faults = []
    for note in runner.notes():
        say(note)
    for asked in runner.asked():
        say(f"{asked.benchmark.name}: {asked.settings.label or 'as the task has it'}")
        if not models:
            continue
        try:
            prompt = runner.first_prompt(asked.benchmark, models[0])
        except DellaBenchError as error:
            say(f"  its first prompt cannot be shown: {error}")
            if isinstance(error, DataError):
                faults.append(error)
            continue
        say(f"  first prompt of {models[0].display_name}:")
        say("".join(f"  | {line}\n" for line in prompt.splitlines()))
    return faults


def show_plan(plan: Iterable[Planned]) -> None:
    """Print every step, whether it is done, and about what it will cost."""
    from decimal import Decimal

    from della_bench.cli.console import plain_table, say
    from della_bench.cli.terminal import Terminal
    from della_bench.visible import visible_line

    shown = plain_table("model", "benchmark", "step", "", "about $")
    steps = list(plan)
    for step in steps:
        state = "done" if step.done else "to do"
        cost = "unknown" if step.cost is None else f"{step.cost:.2f}" if step.cost else ""
        texts = (step.spec.display_name, step.benchmark.name, step.what, state, cost)
        shown.add_row(*map(visible_line, texts))
    Terminal().print(shown)
    open_steps = sum(not step.done for step in steps)
    total = sum((step.cost for step in steps if step.cost is not None), Decimal(0))
    unknown = sum(step.cost is None for step in steps)
    more = f", and {unknown} of unknown price" if unknown else ""
    say(f"{open_steps} of {len(steps)} steps to do, about ${total:.2f} for judges{more}")
