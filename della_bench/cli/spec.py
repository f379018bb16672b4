"""`della-bench spec`: what a spec means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from della_bench.spec import MergeSpec

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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Check merges' specs and print them in canonical form, with their digests and what each key means.

    Takes what `della-bench run` takes. No model is opened. JSON is one object, or a list where several are asked for.
    """
    import json

    from della_bench.cli.console import say, say_data, show_warnings
    from della_bench.run.specs import read_specs

    show_warnings()
    parsed = read_specs(specs)
    if as_json:
        facts = [_facts(each) for each in parsed]
        say_data(json.dumps(facts if len(facts) > 1 else facts[0], indent=2, ensure_ascii=False) + "\n")
        return
    for number, each in enumerate(parsed):
        if number:
            say("")
        _print_table(each)


def _facts(parsed: MergeSpec) -> dict[str, object]:
    keys = parsed.as_keys(effective=True)
    return {"spec": str(parsed), "digest": parsed.digest, "name": parsed.display_name, "keys": keys}


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
    Terminal().print(table)
