"""What a search leaves to read: search.csv with a row a candidate, winner.yaml, and the record of what chose whom."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from della_bench.jsonfiles import whole_file, write_json, write_whole
from della_bench.results.chosen import Chosen, remember, write_chosen
from della_bench.search.candidate import SECONDS, Candidate, means_of
from della_bench.search.plan import Plan
from della_bench.search.selection import Compared, interval_of, intervals_of, standing
from della_bench.search.settings import SETS

__all__ = [
    "ROLES",
    "Outcome",
    "candidate_rows",
    "difference_of",
    "score_of",
    "score_text",
    "write_candidates",
    "write_report",
]

ROLES = {
    "winner": "the winner",
    "runner-up": "the runner-up",
    "default": "untuned",
    "expert": "the best expert",
    "front": "on the front",
}


@dataclass(frozen=True)
class Outcome:
    """What a search has come to: everybody who took part, in order, who was tested, and why it ended.

    roles: winner, runner-up, default, expert or front, each with who it is; fixed before a test item was read.
    """

    candidates: tuple[Candidate, ...]
    roles: tuple[tuple[str, Candidate], ...] = ()
    ended: str = ""

    @property
    def winner(self) -> Candidate | None:
        """The winner, None where there is none yet."""
        return next((each for role, each in self.roles if role == "winner"), None)


def candidate_rows(
    plan: Plan, candidates: Sequence[Candidate], compared: Compared | None = None
) -> list[dict[str, Any]]:
    """Return a row for each candidate: a value of a stopped one is none of all search items, and not in `value`.

    compared: as `standing` takes it.
    """
    goal = plan.settings.goal
    stands = standing(goal, candidates, compared) if goal.several else {}
    rows = []
    for place, each in enumerate(candidates):
        complete = each.state == "complete"
        means = means_of(each.values.get("search", {})) if complete else {}
        numbers = goal.values(means) if complete else [None] * len(goal.parts)
        shown = plan.space.shown(each.proposal) if each.proposal else {}
        row: dict[str, Any] = {"number": each.number, "origin": each.origin, "state": each.state, "reason": each.reason}
        row |= (
            {"value": numbers[0]}
            if not goal.several
            else dict(zip(map("maximized {}".format, goal.names), numbers, strict=True))
        )
        row |= {name: means.get(name) for name in plan.settings.benchmarks}
        row |= {"front": stands.get(place)} if goal.several else {}
        row |= {"items": each.seen("search"), "seconds": sum(each.seconds.values())}
        row |= {f"seconds_{name}": each.seconds.get(name, 0.0) for name in SECONDS}
        row |= {dimension.name: shown.get(dimension.name) for dimension in plan.space.all_dimensions}
        rows.append({**row, "spec": str(each.spec)})
    return rows


def write_candidates(plan: Plan, candidates: Sequence[Candidate], compared: Compared | None = None) -> None:
    """Write search.csv, whole: empty where a candidate has no value. compared: as `standing` takes it."""
    _write_csv(plan, candidate_rows(plan, candidates, compared))


def _write_csv(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    write_whole(plan.out / "search.csv", text.getvalue())


def _write_parquet(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        kinds = {type(value) for value in values if value is not None}
        columns[name] = (
            [None if value is None else str(value) for value in values] if len(kinds) > 1 and str in kinds else values
        )
    table = pyarrow.table(columns)
    with whole_file(plan.out / "search.parquet") as beside:
        pyarrow.parquet.write_table(table, beside)


def score_of(plan: Plan, candidate: Candidate, which: str) -> dict[str, Any] | None:
    """Return a candidate's score on a set in plain values: what is maximised with its interval, and each benchmark."""
    values = candidate.values.get(which)
    if not values or not candidate.has(which, plan.sets[which]):
        return None
    goal, means = plan.settings.goal, means_of(values)
    whole: dict[str, Any]
    if goal.several:
        whole = {"intervals": {name: list(each) for name, each in intervals_of(values).items()}}
    else:
        whole = {"value": goal.values(means)[0], "interval": list(interval_of(goal.parts[0], values))}
    return {**whole, "items": sum(map(len, values.values())), "benchmarks": means}


def write_report(plan: Plan, outcome: Outcome, compared: Compared | None = None) -> None:
    """Write everything that stands when a search has ended. compared: as `standing` takes it."""
    rows = candidate_rows(plan, outcome.candidates, compared)
    _write_csv(plan, rows)
    _write_parquet(plan, rows)
    winner = outcome.winner
    if winner is None:
        return
    tested = [
        {
            "role": role,
            "name": each.name,
            "spec": str(each.spec),
            **{which: score_of(plan, each, which) for which in SETS},
            "difference": difference_of(plan, each),
        }
        for role, each in outcome.roles
    ]
    write_json(plan.out / "tested.json", {"schema": 1, "ended": outcome.ended, "tested": tested})
    facts = {
        "spec": str(winner.spec),
        "scores": {which: score_of(plan, winner, which) for which in SETS},
        "search_minus_test": difference_of(plan, winner),
        "chosen_among": len([each for each in outcome.candidates if each.may_win]),
        "chosen_on": {
            f"{each.benchmark}, {which}": f"{len(each.items)} of {each.task}"
            for which in ("search", "select")
            for each in plan.sets[which]
        },
        "folder": f"runs/{winner.folder.name}",
    }
    text = yaml.safe_dump({**winner.spec.as_keys(), "search": facts}, sort_keys=False, allow_unicode=True)
    write_whole(plan.out / "winner.yaml", text)
    if plan.settings.goal.several:
        front = [each.spec.as_keys() for role, each in outcome.roles if role in ("winner", "front")]
        write_whole(plan.out / "front.yaml", yaml.safe_dump(front, sort_keys=False, allow_unicode=True))
    _record_choice(plan, outcome)


def difference_of(plan: Plan, candidate: Candidate) -> float | None:
    """Return by how many points a candidate's search score is above its test score."""
    goal = plan.settings.goal
    found, tested = (candidate.values.get(which) for which in ("search", "test"))
    if not found or not tested or candidate.state != "complete":
        return None
    pairs = zip(goal.values(means_of(found)), goal.values(means_of(tested)), strict=True)
    return sum(a - b for a, b in pairs) / len(goal.parts)


def _record_choice(plan: Plan, outcome: Outcome) -> None:
    """Let the runs of what this search has proposed say on which items they were chosen."""
    items: dict[str, list[str]] = {}
    for which in ("search", "select"):
        for each in plan.sets[which]:
            items.setdefault(each.task, []).extend(digest for _, digest in each.items)
    finalists = {each.spec.digest for role, each in outcome.roles if role in ("winner", "runner-up", "front")}
    for candidate in outcome.candidates:
        if candidate.origin in ("proposed", "earlier") or candidate.spec.digest in finalists:
            if candidate.state != "complete" or candidate.number is None:
                continue
            chosen = Chosen(candidate.fingerprint, items)
            write_chosen(candidate.folder, chosen)
            if candidate.spec.digest in finalists:
                remember(chosen)


def score_text(score: Mapping[str, Any] | None) -> str:
    """Return a score in words: its value and interval, "–" where there is none."""
    if score is None:
        return "–"
    if "value" not in score:
        ends = score["intervals"]
        return ", ".join(
            f"{name} {value:.1f} [{ends[name][0]:.1f}, {ends[name][1]:.1f}]"
            for name, value in score["benchmarks"].items()
        )
    low, high = score["interval"]
    return f"{score['value']:.1f} [{low:.1f}, {high:.1f}]"
