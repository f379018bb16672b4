"""The models of a run: specs in any form, and the base and experts that a merge must be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec, Source
from della_bench.spec.files import is_file_name, load_documents
from della_bench.spec.source import encode

__all__ = ["alone", "folder_name", "named_experts", "read_specs", "with_references"]


def read_specs(given: Sequence[str]) -> list[MergeSpec]:
    """Return the specs of arguments that are each a spec, a YAML file of one, or a YAML file with a list of them.

    Raises SpecError with all faults of all of them.
    """
    specs, faults = [], []
    for text in given:
        entries = _list_in(text)
        for number, entry in enumerate([text] if entries is None else entries, start=1):
            place = "" if entries is None else f"{text}, entry {number}: "
            if not isinstance(entry, (str, dict)):
                faults.append(f"{place}a spec is a string or a mapping, got {type(entry).__name__}")
                continue
            try:
                specs.append(MergeSpec.parse(entry))
            except SpecError as error:
                faults += [f"{place}{fault}" for fault in error.faults]
    if faults:
        raise SpecError(faults)
    return specs


def _list_in(text: str) -> list[object] | None:
    """Return the entries of a YAML file that holds a list; None for anything else, which MergeSpec.parse reads."""
    path = Path(text)
    if not is_file_name(text) or not path.is_file():
        return None
    try:
        documents = load_documents(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if len(documents) != 1 or not isinstance(documents[0], list):
        return None
    if not documents[0]:
        raise SpecError(f"{path}: an empty list; it needs at least one spec")
    return documents[0]


def with_references(specs: Sequence[MergeSpec], *, base: bool, experts: bool) -> list[MergeSpec]:
    """Return the specs, each merge once, behind their bases and experts where these are asked for.

    Of two specs that differ in their names alone the first one stays.

    A base or expert is passed through with the merge's own dtype, tokenizer and chat template, so that its row differs
    from the merge's in the weights alone. A union is that of the base and the one expert, and `tokens`, which may name
    another, have no part in it.
    """
    unique: dict[str, MergeSpec] = {}
    references = [alone(spec, spec.base) for spec in specs] if base else []
    references += [alone(spec, source) for spec in specs for source in spec.experts] if experts else []
    for spec in (*references, *specs):
        unique.setdefault(spec.digest, spec)
    return list(unique.values())


def alone(spec: MergeSpec, source: Source, name: str | None = None) -> MergeSpec:
    """Return a spec of one source of `spec`, evaluated as it is. name: by default the source's own."""
    keys = {
        "base": spec.base,
        "experts": [source],
        "merge_method": "passthrough",
        "name": encode(name or _name_of(source)),
        "dtype": spec.dtype,
        "tokenizer": spec.tokenizer,
        "pad_to_multiple_of": spec.pad_to_multiple_of,
        "chat_template": spec.chat_template,
    }
    return MergeSpec.parse({key: value for key, value in keys.items() if value is not None})


def _name_of(source: Source) -> str:
    if source.scheme == "merge":
        model = MergeSpec.parse(source.place).display_name
    else:
        model = Path(source.place).name or str(source)
    return model if source.adapter is None else f"{model}+{Path(source.adapter.place).name}"


def named_experts(spec: MergeSpec) -> dict[str, Source]:
    """Return the experts by what tables call them; where that is the same for two, by where they lie."""
    sources = list(dict.fromkeys(spec.experts))
    names = [_name_of(source) for source in sources]
    pairs = zip(names, sources, strict=True)
    return {name if names.count(name) == 1 else str(source): source for name, source in pairs}


def folder_name(spec: MergeSpec) -> str:
    """Return what a run's folder is called: the spec's `file_name`."""
    return spec.file_name
