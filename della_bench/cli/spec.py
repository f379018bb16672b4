"""`della-bench spec`: what a spec means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from della_bench.spec import MergeSpec
    from della_bench.spec.tensor import TensorSpec

__all__ = ["SpecArgument", "spec"]

SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="key=value,key=value..., a JSON object, or a YAML file (this package's keys, or mergekit's format).",
    ),
]


def spec(
    specs: Annotated[
        list[str],
        typer.Argument(metavar="SPEC...", help="key=value,key=value..., a JSON object, a YAML file, or a YAML list."),
    ],
    layers: Annotated[
        bool, typer.Option("--layers", help="Print each tensor's numbers; sources are opened, and no weight is read.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Check merges' specs and print them in canonical form, with their digests and what each key means.

    Takes what `della-bench run` takes. No model is opened, unless the numbers of its layers are asked for. JSON is one
    object, or a list where several are asked for.
    """
    import json

    from della_bench.cli.console import say, say_data, show_warnings
    from della_bench.run.specs import read_specs

    show_warnings()
    parsed = read_specs(specs)
    tensors = [_tensors(each) if layers else {} for each in parsed]
    if as_json:
        facts = [_facts(each, numbers) for each, numbers in zip(parsed, tensors, strict=True)]
        say_data(json.dumps(facts if len(facts) > 1 else facts[0], indent=2, ensure_ascii=False) + "\n")
        return
    for number, each in enumerate(parsed):
        if number:
            say("")
        _print_table(each)
        if layers:
            _print_tensors(tensors[number])


def _facts(parsed: MergeSpec, tensors: Mapping[str, object]) -> dict[str, object]:
    facts: dict[str, object] = {"spec": str(parsed), "digest": parsed.digest, "name": parsed.display_name}
    facts["keys"] = parsed.as_keys(effective=True)
    return {**facts, "tensors": tensors} if tensors else facts


def _tensors(parsed: MergeSpec) -> dict[str, dict[str, Any]]:
    """Return the numbers of each tensor, those that the method uses, and of a merge of slices what it is made of."""
    from dataclasses import asdict

    used = {"lambda_" if key == "lambda" else key for key in parsed.as_keys(effective=True)}
    shown = [key for key in ("weights", "density", "epsilon", "lambda_") if key in used]
    rows, origins = _planned(parsed)
    numbers = {name: {**asdict(row), "options": dict(row.options)} for name, row in rows.items()}
    own = [option.name for option in parsed.method.options if option.kind is float]
    return {
        name: origins.get(name, {})
        | {key.rstrip("_"): row[key] for key in shown}
        | {key: row["options"][key] for key in own}
        for name, row in numbers.items()
    }


def _planned(parsed: MergeSpec) -> tuple[dict[str, TensorSpec], dict[str, dict[str, Any]]]:
    """Return the plan of a merge, and of a merge of slices what each tensor is made of, as source:layer.

    Only the base is opened, unless slices tell of the layers of all sources.
    """
    from della_bench.checkpoint.canonical import parameters
    from della_bench.merge.plan import plan
    from della_bench.merge.stream import Merge, open_part
    from della_bench.spec.varying import depth

    if not parsed.slices:
        names = [name for name, info in parameters(open_part(parsed.base)).items() if info.is_float]
        return plan(parsed, depth(names)), {}
    merge = Merge(parsed)
    rows = {name: row for name, row in merge.plan.items() if merge.info(name).is_float}
    if merge.stacking is None:
        return rows, {}
    return rows, {name: {"from": merge.stacking.place(name).origin} for name in rows}


def _print_tensors(tensors: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the numbers of each tensor, one number where all experts have the same."""
    from della_bench.cli.console import plain_table, say
    from della_bench.cli.terminal import Terminal

    columns = list(next(iter(tensors.values()), {}))
    table = plain_table("tensor", *columns)
    table.columns[0].no_wrap = True
    for name, row in tensors.items():
        many = [value if isinstance(value, (tuple, list)) else (value,) for value in row.values()]
        shown = [each[:1] if len(set(each)) == 1 else each for each in many]
        table.add_row(name, *(", ".join(e if isinstance(e, str) else f"{e:.6g}" for e in each) for each in shown))
    say("")
    Terminal().print(table)


def _print_table(parsed: MergeSpec) -> None:
    from della_bench.cli.console import plain_table, say
    from della_bench.cli.terminal import Terminal
    from della_bench.spec import KEYS, OTHER_NAMES

    row = parsed.method
    say(parsed)  # one line, to be pasted
    say(f"\nname    {parsed.display_name}\ndigest  {parsed.digest}")
    say(f"method  {row.name}: {row.summary} ({row.origin})")
    columns = ", ".join(f"{name} {row.as_dict()[name]}" for name in ("drop", "elect", "normalize", "scaling"))
    say(f"        {columns}")
    for stage in parsed.stages.values():
        say(f"\nsource  {stage.display_name}, a merge itself: {stage}")
    table = plain_table("key", "value", "meaning")
    values = parsed.as_keys(effective=True)
    for key, what in KEYS.items():
        if key in values:
            value = values[key]
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            others = [
                name if other.meaning == key else f"{name} = {other.meaning}"
                for name, other in OTHER_NAMES.items()
                if other.key == key and name != "lambda_"
            ]
            table.add_row(key, shown, what.meaning + f" (or: {', '.join(others)})" * bool(others))
    for option in row.options:
        value = values[option.name]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(option.name, shown, option.described)
    Terminal().print(table)
