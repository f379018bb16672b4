"""What `della-bench search` prints: the plan before, how a search stands, and what it has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.cli.console import cut_to_fit, plain_table, say
from della_bench.cli.terminal import Terminal
from della_bench.errors import UsageError
from della_bench.jsonfiles import read_json
from della_bench.lock import is_held
from della_bench.search.candidate import Candidate, read_candidate
from della_bench.search.definition import is_definition, kept_definition
from della_bench.search.dimension import Dimension
from della_bench.search.plan import Plan, paid_scorers
from della_bench.search.report import ROLES, Outcome, difference_of, score_of, score_text
from della_bench.search.settings import SETS
from della_bench.spec.numbers import number_text
from della_bench.visible import visible_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["show_outcome", "show_plan", "show_search"]

_WIDE = 100  # columns of a terminal that has room for blanks, and for intervals beside their values
_TESTED = 4  # the winner, the runner-up, the untuned default and the best expert


def show_plan(plan: Plan) -> None:
    """Print the space, how many merges it has, the items of each set, and about what judges will cost."""
    space = plan.space
    table = plain_table("dimension", "values", "of methods")
    for each in space.all_dimensions:
        users = [name for name in space.methods if each in space.dimensions(name)]
        methods = "" if len(users) in (0, len(space.methods)) else ", ".join(users)
        table.add_row(each.name, visible_line(_values(each)), methods)
    Terminal().print(table)
    size = space.size
    say("merges in the space: " + ("unlimited (a range without steps)" if size is None else f"{size:,}"))
    items = plain_table("benchmark", *SETS)
    for name in plan.settings.benchmarks:
        own = [next(each for each in plan.sets[which] if each.benchmark == name) for which in SETS]
        items.add_row(name, *(f"{len(each.items)} of {each.task}" for each in own))
    Terminal().print(items)
    divided = [name for name in plan.settings.benchmarks if len({each.split for each in _own(plan, name)}) == 1]
    for name in divided:
        say(f"{name} has one split for all three: it is divided by the hash of each document")
    settings = plan.settings
    budgets = [
        f"{settings.trials} candidates" if settings.trials else "",
        f"{settings.seconds:g} seconds" if settings.seconds else "",
        f"until {settings.patience} in a row bring nothing better" if settings.patience else "",
    ]
    race = "no race" if settings.race is None else f"race by {settings.race.pruner}, alpha {settings.race.alpha:g}"
    say(f"sampler {settings.sampler}, {race}; {', '.join(filter(None, budgets)) or 'the whole grid'}")
    say(_cost_text(plan))


def _own(plan: Plan, name: str) -> list[Any]:
    return [each for which in SETS for each in plan.sets[which] if each.benchmark == name]


def _values(each: Dimension) -> str:
    if each.choices is not None:
        return ", ".join(each.choices)
    how = [f"step {number_text(each.step)}"] if each.step else []
    how += ["log"] * each.log + ["whole numbers"] * each.whole
    return f"{number_text(each.low)} to {number_text(each.high)}" + (f" ({', '.join(how)})" if how else "")


def _cost_text(plan: Plan) -> str:
    """Return about what judges will cost if no candidate is stopped, in words."""
    from della_bench.run.scorers import expected_cost

    settings = plan.settings
    tried = settings.trials or (plan.space.size if settings.sampler == "grid" else None)
    counts = {"search": (tried or 0) + len(plan.references()), "select": settings.finalists, "test": _TESTED}
    total, unknown = Decimal(0), False
    for (name, which), number in plan.numbers.items():
        row = plan.rows[plan.numbers[name, "test"].task]  # a judge's guess is of the test split's problems
        items = next(each for each in plan.sets[which] if each.benchmark == name)
        for scorer in paid_scorers(plan.rows, number, plan.options):
            whole = expected_cost(row, scorer, None, plan.options)
            unknown = unknown or whole is None or (which == "search" and tried is None)
            total += (whole or Decimal(0)) * len(items.items) * counts[which] / len(plan.tasks.task(row).eval_docs)
    if unknown:
        return "what judges will cost is not known"
    return f"about ${total:.2f} for judges, if no candidate is stopped"


def show_outcome(plan: Plan, outcome: Outcome) -> None:
    """Print who won, with its scores on all three sets, and the string to paste."""
    counts = Counter(each.state for each in outcome.candidates if each.number is not None)
    states = ", ".join(f"{counts[state]} {state}" for state in ("complete", "stopped", "failed") if counts[state])
    say(f"{outcome.ended}: {states}")
    if failed := [each for each in outcome.candidates if each.state == "failed"]:
        reasons = Counter(each.reason for each in failed)
        for reason, count in reasons.items():
            say(f"failed, {count} times: {visible_line(reason)}")
    seen, whole = saved(plan, outcome.candidates)
    if whole > seen:
        say(f"racing saved {whole - seen:,} of {whole:,} answers ({100 * (whole - seen) / whole:.0f} %)")
    console = Terminal()
    table = _table(console, "", "candidate", *(f"{which} items" for which in SETS), "search - test")
    for role, each in outcome.roles:
        scores = [score_text(score_of(plan, each, which)) for which in SETS]
        difference = difference_of(plan, each)
        if console.width < _WIDE:  # intervals below what they belong to
            scores = [score.replace(" [", "\n[") for score in scores]
        name = visible_line(each.name)
        table.add_row(ROLES[role], name, *scores, "" if difference is None else f"{difference:+.1f}")
    console.print(table)
    if outcome.winner is not None:
        say(f"{plan.out / 'winner.yaml'}; to paste into lm_eval, merge or serve:")
        say(outcome.winner.spec)


def _table(console: Console, *columns: str) -> Table:
    """Return a table with blanks between its columns as the console has room for them."""
    table = plain_table(*columns)
    if console.width < _WIDE:
        table.padding, table.show_edge = 0, False  # a blank between columns is enough
    return table


def saved(plan: Plan, candidates: Sequence[Candidate]) -> tuple[int, int]:
    """Return how many answers candidates that did not fail gave on the search items, and how many there would be."""
    items = sum(len(each.items) for each in plan.sets["search"])
    seen = [each.seen("search") for each in candidates if each.state in ("complete", "stopped")]
    return sum(seen), items * len(seen)


def show_search(out: Path) -> None:
    """Print how the search in a folder stands, running or ended."""
    definition = kept_definition(out)
    if definition is None or not is_definition(definition):
        raise UsageError(f"{out} holds no search")
    found = [read_candidate(path.parent) for path in sorted((out / "runs").glob("*/candidate.json"))]
    candidates = sorted(
        (each for each in found if each is not None), key=lambda each: (each.number is not None, each.number or 0)
    )
    counts = Counter(each.state for each in candidates if each.number is not None)
    say(f"{out}: {sum(counts.values())} candidates; " + ", ".join(f"{n} {state}" for state, n in counts.items()))
    console = Terminal()
    table = _table(console, "candidate", "state", *definition["search"]["benchmarks"], "items", "seconds", "merge")
    for each in candidates:
        values = each.values.get("search", {})
        whole = each.state == "complete"
        means = [
            f"{100 * sum(values[name]) / len(values[name]):.1f}" if whole and values.get(name) else ""
            for name in definition["search"]["benchmarks"]
        ]
        state = "under way" if each.state == "new" else each.state
        cells = [each.name, state, *means, str(each.seen("search")), f"{sum(each.seconds.values()):.1f}"]
        table.add_row(*map(visible_line, cells), cut_to_fit(each.spec.display_name))
    console.print(table)
    tested = out / "tested.json"
    if not tested.is_file():
        say("under way" if is_held(out) else "not ended: the command that began it goes on")
        return
    for each in read_json(tested)["tested"]:
        scores = ", ".join(f"{which} {score_text(each[which])}" for which in SETS)
        say(visible_line(f"{ROLES[each['role']]}, {each['name']}: {scores}; {each['spec']}"))
