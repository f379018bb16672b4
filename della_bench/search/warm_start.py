"""Earlier runs as a search's first candidates: what was evaluated on the same items is not asked again."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from della_bench.errors import DellaBenchError
from della_bench.results.schema import read_items, read_provenance
from della_bench.run.folder import RunFolder
from della_bench.search.candidate import Candidate, read_candidate, write_candidate
from della_bench.search.plan import Plan
from della_bench.spec import MergeSpec

__all__ = ["earlier_proposals"]

log = logging.getLogger(__name__)


def earlier_proposals(plan: Plan) -> Iterator[Mapping[str, Any]]:
    """Yield the proposals of the merges below the warm start's folders that the space holds.

    Their answers are taken over where they are about the same model and all items of the search: its run folder is
    copied into this search's. Others are evaluated like every proposal.
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
            if proposal is None or spec.digest in seen:
                continue
            seen.add(spec.digest)
            _take_over(plan, folder, plan.space.spec(proposal), candidate)
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


def _take_over(plan: Plan, folder: Path, spec: MergeSpec, candidate: Candidate | None) -> None:
    """Copy a run's folder, where it says all that evaluating the spec here would."""
    target = plan.runs / spec.file_name
    if read_candidate(target) is not None:
        return
    if candidate is None or not candidate.has("search", plan.sets["search"]) or candidate.state != "complete":
        candidate = _from_run(plan, folder, spec)
    if candidate is None or not _is_same_model(plan, folder, spec):
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside, ignore=shutil.ignore_patterns(".lock", "candidate.json", "*.blocks.jsonl"))
    write_candidate(replace(candidate, folder=beside, number=None, origin="earlier", state="complete", seconds={}))
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def _is_same_model(plan: Plan, folder: Path, spec: MergeSpec) -> bool:
    try:
        known = read_provenance(folder / "provenance.json")["fingerprint"]
        return known == RunFolder(spec, folder, plan.options).inputs.fingerprint
    except DellaBenchError:
        return False


def _from_run(plan: Plan, folder: Path, spec: MergeSpec) -> Candidate | None:
    """Return what `della-bench run` has left as a candidate's values; None where an item is missing."""
    values: dict[str, list[float]] = {}
    for each in plan.sets["search"]:
        number, row = plan.numbers[each.benchmark, "search"], plan.rows[each.task]
        found: dict[str, float] = {}
        for path in sorted((folder / "scores").glob(f"{row.name}.{number.name}*.items.jsonl")):
            try:
                found |= {item["doc_hash"]: item["value"] for item in read_items(path) if item["value"] is not None}
            except DellaBenchError as error:
                log.warning("warm start: %s", error)
        if any(digest not in found for _, digest in each.items):
            return None
        values[each.benchmark] = [found[digest] for _, digest in each.items]
    return Candidate(spec, folder, "earlier").with_values("search", values, plan.sets["search"])
