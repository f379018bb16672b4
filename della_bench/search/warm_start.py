"""Earlier runs as a search's first candidates: what was asked the same items in the same way is not asked again."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from della_bench.errors import DellaBenchError
from della_bench.jsonfiles import read_rows
from della_bench.run.folder import Asked, RunFolder
from della_bench.search.candidate import Candidate, read_candidate, write_candidate
from della_bench.search.definition import kept_definition
from della_bench.search.items import ItemSet
from della_bench.search.plan import Plan
from della_bench.search.settings import SETS
from della_bench.spec import MergeSpec

__all__ = ["earlier_proposals"]

log = logging.getLogger(__name__)


def earlier_proposals(plan: Plan) -> Iterator[Mapping[str, Any]]:
    """Yield the proposals of the merges below the warm start's folders that the space holds.

    Their answers are taken over where the same model was asked all items of the search, in the way in which this search
    asks them: the run folder is copied into this search's. Others are evaluated like every proposal.
    """
    seen: set[str] = set()
    for root in plan.warm_start:
        for path in sorted(root.rglob("spec.yaml")):
            folder = path.parent
            if plan.runs.resolve() in folder.resolve().parents:
                continue
            try:
                spec = MergeSpec.parse(path)
            except DellaBenchError as error:
                log.warning("warm start: %s: %s", folder, error)
                continue
            candidate = read_candidate(folder)
            proposal = _proposal(plan, spec, candidate)
            if proposal is None:
                continue
            _take_over(plan, folder, plan.space.spec(proposal))
            if spec.digest not in seen:
                seen.add(spec.digest)
                yield proposal


def _proposal(plan: Plan, spec: MergeSpec, candidate: Candidate | None) -> Mapping[str, Any] | None:
    """Return what this space proposes where it proposes the spec, None where it cannot."""
    if candidate is not None and candidate.proposal:
        try:
            if plan.space.spec(candidate.proposal).digest == spec.digest:
                return candidate.proposal
        except (DellaBenchError, KeyError, ValueError):  # of another space: looked for by its numbers
            log.debug("%s was proposed by another space", candidate.folder)
    return plan.space.proposal_of(spec)


def _take_over(plan: Plan, folder: Path, spec: MergeSpec) -> None:
    """Copy a run's folder, where it says all that evaluating the spec here would."""
    target = plan.runs / spec.file_name
    if read_candidate(target) is not None or not any(folder.glob("results_*.json")):
        return
    try:
        run = RunFolder(spec, folder, plan.options)
        candidate = Candidate(spec, folder, "earlier", state="complete", fingerprint=run.inputs.fingerprint)
        for which in SETS:
            values = _values(plan, run, which)
            if values is None and which == "search":
                return
            if values is not None:
                candidate = candidate.with_values(which, values, plan.sets[which])
    except DellaBenchError as error:
        log.warning("warm start: %s: %s", folder, error)
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside, ignore=shutil.ignore_patterns(".*", "candidate.json", "*.blocks.jsonl"))
    write_candidate(replace(candidate, folder=beside))
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def _values(plan: Plan, run: RunFolder, which: str) -> dict[str, list[float]] | None:
    """Return what a run says of a set's items, asked as this search asks them; None where one is missing."""
    values: dict[str, list[float]] = {}
    for each in plan.sets[which]:
        number, row = plan.numbers[each.benchmark, which], plan.rows[each.task]
        asked = Asked(row, plan.options.settings_of(row.name), plan.tasks.digest(row))
        found: dict[str, float] = {}
        answered: set[str] = set()
        for evaluated in run.asked_alike(asked):
            samples = [sample for _, sample in read_rows(evaluated.samples)]
            answered |= {str(sample["doc_hash"]) for sample in samples}
            if number.scorer is None:
                found = number.of_rows(samples) | found  # the latest answers come first
            elif scores := run.scored(asked, number.scorer, evaluated):
                judged = number.of_items(scores, run.folder)
                found = {digest: value for digest, value in judged.items() if value is not None} | found
        if number.scorer is not None and answered.issuperset(digest for _, digest in each.items):
            found = _judged_in_its_search(plan, run.folder, which, each) | found
        if any(digest not in found for _, digest in each.items):
            return None
        values[each.benchmark] = [found[digest] for _, digest in each.items]
    return values


def _judged_in_its_search(plan: Plan, folder: Path, which: str, items: ItemSet) -> dict[str, float]:
    """Return what the same judge gave in the search that a folder is of, which leaves its values in one place alone."""
    try:
        kept = kept_definition(folder.parent.parent)
    except DellaBenchError:
        return {}
    inside = (kept or {}).get("search")
    judges = inside.get("judges") if isinstance(inside, Mapping) else None
    candidate = read_candidate(folder)
    if judges != plan.judges or candidate is None or not candidate.has(which, [items]):
        return {}
    pairs = zip(items.items, candidate.values[which][items.benchmark], strict=True)
    return {digest: value for (_, digest), value in pairs}
