"""What a spec's file is written in: our own keys, mergekit's format or one of its relatives, or the DELLA authors'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from della_bench.errors import SpecError
from della_bench.spec.authors import is_authors, translate_authors
from della_bench.spec.mergekit import MERGEKITS_KEYS, is_mergekit, translate
from della_bench.spec.stages import read_documents

__all__ = ["FOREIGN_KEYS", "is_foreign", "our_keys"]

_MOE_KEYS = ("gate_mode", "experts_per_token", "shared_experts")
_EVOLVE_KEYS = ("genome", "tasks")
FOREIGN_KEYS = (*MERGEKITS_KEYS, *_MOE_KEYS, *_EVOLVE_KEYS)
"""The keys of the formats that are not ours; some of them are keys of ours, too, of another meaning."""

_MOE = (
    "a mergekit-moe configuration: it makes a mixture of experts, a model with a router and with more parameters than "
    "the base has, and a merge here has the base's parameters"
)
_EVOLVE = (
    "a mergekit-evolve configuration: its genome is a space of merges and not one merge; `della-bench search` looks "
    "for the best of a space"
)


def is_foreign(data: Mapping[str, object]) -> bool:
    """Whether a mapping is written in another format than ours."""
    return is_authors(data) or is_mergekit(data) or _refusal(data) is not None


def our_keys(documents: Sequence[Mapping[str, object]], where: str) -> dict[str, Any]:
    """Return our keys for the documents of a file, one of any format or several of mergekit's.

    where: what errors begin with. Raises SpecError with every fault found.
    """
    if faults := [f"{where}{refusal}" for data in documents if (refusal := _refusal(data)) is not None]:
        raise SpecError(faults)
    if len(documents) > 1:
        if ours := [n for n, data in enumerate(documents, start=1) if data.keys() & {"base", "experts"}]:
            others = "only mergekit's format has several; write the merge itself in the place of a source"
            raise SpecError([f"{where}document {n}: in this package's own keys, and {others}" for n in ours])
        return read_documents(documents, where, translate)
    (data,) = documents
    if is_authors(data):
        return translate_authors(data, where)
    # What a search says of its winner, in the same file, is no part of the merge.
    return translate(data, where) if is_mergekit(data) else {key: data[key] for key in data if key != "search"}


def _refusal(data: Mapping[str, object]) -> str | None:
    """Return why a file of a relative of mergekit's format is no merge; None where it is none of these."""
    if "genome" in data:
        return _EVOLVE
    experts = data.get("experts")
    listed = isinstance(experts, list) and any(isinstance(e, Mapping) and "source_model" in e for e in experts)
    return _MOE if listed or any(key in data for key in _MOE_KEYS) else None
