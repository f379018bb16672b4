"""The model card that is written beside a merge: where it comes from, how to make it again, and what it scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import della_bench
from della_bench.benchmarks import BENCHMARKS, title_of
from della_bench.checkpoint import Adapter, ModelFolder
from della_bench.checkpoint.fused import Form
from della_bench.checkpoint.stacking import View
from della_bench.errors import UsageError
from della_bench.merge.staged import Staged
from della_bench.merge.stream import Merge
from della_bench.results.table import Cell, Row, scorer_label
from della_bench.spec import MergeSpec, Source

__all__ = ["make_card", "scores_of"]


def scores_of(merge: Merge, runs: list[Path]) -> Row:
    """Return the leaderboard's row of a merge in folders of runs.

    Raises UsageError where there is none, or only one of the same spec on other input files.
    """
    from della_bench.errors import SpecError
    from della_bench.merge.fingerprint import Inputs
    from della_bench.results.leaderboard import NO_BASELINE, build_table

    place = ", ".join(map(str, runs))
    rows = []
    for row in build_table(runs, baseline=NO_BASELINE).rows:
        try:
            if MergeSpec.parse(row.spec).digest == merge.spec.digest:
                rows.append(row)
        except SpecError:
            continue  # another model
    if not rows:
        raise UsageError(f"{place}: no run of this merge", argument="runs")
    fingerprint = Inputs(merge).fingerprint
    own = [row for row in rows if row.fingerprint == fingerprint]
    if not own:
        raise UsageError(f"{place}: the runs of this spec are of other input files than these", argument="runs")
    return own[0]


def make_card(merge: Merge, row: Row | None = None) -> str:
    """Return the card: YAML for the hub's readers, then the text. `row` has the scores of this very merge."""
    spec = merge.spec
    licences = {source: _licence(folder) for source, folder in _folders(merge).items()}
    parts = ["---", _metadata(merge, row, licences), "---", "", f"# {spec.display_name}", ""]
    parts += [
        f"Merged by `{spec.merge_method}`: {spec.method.summary} ({spec.method.source}).",
        "",
        "| model | role | licence |",
        "|---|---|---|",
        *(f"| {_link(each)} | {_role(each, spec)} | {licence or 'not stated'} |" for each, licence in licences.items()),
        "",
        *(_scores(row) if row is not None else []),
        "```yaml",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in spec.as_keys(effective=True).items()),
        "```",
        "",
        f"Made with della_bench {della_bench.__version__}; digest of the spec `{spec.digest}`. The same spec on",
        "the same files gives the same bits:",
        "",
        "```",
        f"della-bench merge '{spec}' -o DIR",
        "```",
        "",
        "To evaluate the merge without writing it:",
        "",
        "```",
        f"lm_eval --model della_merged --model_args '{spec}' --tasks ...",
        "```",
    ]
    return "\n".join(parts) + "\n"


def _folders(merge: Merge) -> dict[Source, Path]:
    """Return where each model and adapter lies, the base first; a merge of its own is told by those it is made of."""
    base, *experts = (opened.origin for opened in merge.sources)
    found: dict[Source, Path] = {}
    for source, opened in zip((merge.spec.base, *merge.spec.experts), (base, *experts), strict=True):
        for part, folder in _parts(source, opened):
            found.setdefault(part, folder)
    return found


def _parts(source: Source, opened: ModelFolder) -> Iterator[tuple[Source, Path]]:
    if isinstance(opened, View):
        opened = opened.origin
    if isinstance(opened, Form):
        opened = opened.source
    if isinstance(opened, Adapter) and source.adapter is not None:
        yield from _parts(replace(source, adapter=None), opened.base)
        yield source.adapter, opened.files[-1].parent
    elif isinstance(opened, Staged):
        for inner, below in zip((opened.spec.base, *opened.spec.experts), opened.sources, strict=True):
            yield from _parts(inner, below.origin)
    else:
        yield source, opened.folder


def _role(source: Source, spec: MergeSpec) -> str:
    models = [replace(each, adapter=None) for each in (spec.base, *spec.experts)]
    parts = ["base"] * (source == models[0]) + ["expert"] * (source in models[1:])
    parts += ["adapter"] * any(each.adapter == source for each in (spec.base, *spec.experts))
    return " and ".join(parts) or "part of a source that is a merge"


def _is_on_hub(source: Source) -> bool:
    return not source.scheme and not Path(source.place).exists()


def _link(source: Source) -> str:
    return f"[{source}](https://huggingface.co/{source.place})" if _is_on_hub(source) else f"`{source}`"


def _licence(folder: Path) -> str | None:
    """Return the licence that a source's own card names."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return None
    try:
        found = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    licence = found.get("license_name") or found.get("license") if isinstance(found, dict) else None
    return str(licence) if licence else None


def _metadata(merge: Merge, row: Row | None, licences: Mapping[Source, str | None]) -> str:
    """Return the hub's metadata; scores go into its model-index, by huggingface_hub's own class."""
    spec = merge.spec
    on_hub = [source.place for source in licences if _is_on_hub(source)]
    facts: dict[str, Any] = {"library_name": "transformers", "tags": ["merge", "della_bench"]}
    if on_hub:
        facts["base_model"] = on_hub
    if len(set(licences.values())) == 1 and None not in licences.values():
        facts["license"] = next(iter(licences.values()))
    if row is None or not any(cell.value is not None for cell in row.cells.values()):
        return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).rstrip()
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=BENCHMARKS[name].data["test"].hub if name in BENCHMARKS and BENCHMARKS[name].data else name,
            dataset_name=title_of(name),
            metric_type=cell.metric,
            metric_value=round(cell.value, 2),
            metric_name=f"{cell.metric} by {scorer_label(cell.scorer)}",
            metric_args={"interval": [round(end, 2) for end in cell.interval] if cell.interval else None, "n": cell.n},
        )
        for name, cell in row.cells.items()
        if cell.value is not None
    ]
    return str(ModelCardData(model_name=spec.display_name, eval_results=results, **facts).to_yaml()).rstrip()


def _scores(row: Row) -> list[str]:
    lines = ["| benchmark | percent [95 %] | n | by |", "|---|---|---|---|"]
    lines += [f"| {title_of(name)} | {_number(cell)} | {cell.n} | {_cell(cell)} |" for name, cell in row.cells.items()]
    return [*lines, ""]


def _number(cell: Cell) -> str:
    from della_bench.results.formats import number_text

    return number_text(cell.value, cell.interval)


def _cell(cell: Cell) -> str:
    return scorer_label(cell.scorer).replace("|", "\\|")
