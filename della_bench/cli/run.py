"""`della-bench run`: from specs to scores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from della_bench.benchmarks import BENCHMARKS

if TYPE_CHECKING:
    from decimal import Decimal

    from della_bench.run.runner import Planned
    from della_bench.run.watching import Watcher

__all__ = ["run"]


def _completed(incomplete: str) -> list[str]:
    """Return what the last of the benchmarks, parted by commas, may become."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in BENCHMARKS if name.startswith(last)]


def run(
    specs: Annotated[
        list[str],
        typer.Argument(metavar="SPEC...", help="key=value,key=value..., a JSON object, a YAML file, or a YAML list."),
    ],
    benchmarks: Annotated[
        str,
        typer.Option(
            metavar="A,B...",
            help=f"{', '.join(BENCHMARKS)}, any other task of lm-eval, or a task's YAML file.",
            autocompletion=_completed,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of all runs.")] = Path("runs"),
    include_path: Annotated[
        Path | None,
        typer.Option("--include-path", metavar="DIR", help="Folder with more tasks of lm-eval; they come first."),
    ] = None,
    with_base: Annotated[bool, typer.Option("--with-base", help="Evaluate the base, too.")] = False,
    with_experts: Annotated[bool, typer.Option("--with-experts", help="Evaluate each expert alone, too.")] = False,
    engine: Annotated[
        str, typer.Option(help="hf (transformers) or vllm.", autocompletion=lambda: ["hf", "vllm"])
    ] = "hf",
    device: Annotated[str | None, typer.Option(help="Device, such as cuda:0 or cpu.")] = None,
    batch_size: Annotated[str, typer.Option(help="Prompts at a time; a number or auto.")] = "8",
    model_args: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE,...", help="More arguments of lm-eval's model type.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many documents of each benchmark.")] = None,
    judge: Annotated[str, typer.Option(metavar="NAME", help="Judge of gsm8k; exact asks no model.")] = "exact",
    annotator: Annotated[str, typer.Option(metavar="NAME", help="Judge of alpaca_eval.")] = "alpaca_eval_gpt4",
    max_cost: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Most that all judges of this run may cost together.")
    ] = None,
    max_cost_each: Annotated[
        str | None,
        typer.Option(
            "--max-cost-each", metavar="DOLLARS", help="Most that judging one benchmark of one model may cost."
        ),
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--confirm-run-unsafe-code", help="Let benchmarks run the model's programs.")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(metavar="TRACKER", help="Send scores to trackio, wandb or mlflow, if installed."),
    ] = None,
    track_project: Annotated[
        str, typer.Option("--track-project", metavar="NAME", help="The tracker's project or experiment.")
    ] = "della-bench",
    force: Annotated[bool, typer.Option("--force", help="Do again what is done.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the expected cost; do nothing.")
    ] = False,
) -> None:
    """Evaluate, score and judge models, and print a row for each; started again, it goes on where it was.

    What can be known to be wrong (a key, a server, a price, a device, a source) is said before the first merge.

    Each model has a folder below DIR; `della-bench leaderboard DIR` makes them a table.
    """
    import sys

    _settle_output()
    from della_bench.cli.console import one_of, say, show_warnings
    from della_bench.errors import DellaBenchError
    from della_bench.run.options import Options
    from della_bench.run.runner import Runner
    from della_bench.run.settings import EvalSettings
    from della_bench.run.specs import read_specs, with_references
    from della_bench.run.watching import Watchers

    show_warnings()
    models = with_references(read_specs(specs), base=with_base, experts=with_experts)
    options = Options(
        out=out,
        benchmarks=tuple(name.strip() for name in benchmarks.split(",") if name.strip()),
        include_path=include_path,
        engine=one_of("--engine", engine, ("hf", "vllm")),
        arguments=_arguments(model_args, device, batch_size),
        settings=EvalSettings(limit=limit),
        force=force,
        unsafe=unsafe,
        judge=judge,
        annotator=annotator,
        max_cost=_dollars("--max-cost", max_cost),
        max_cost_each=_dollars("--max-cost-each", max_cost_each),
    )
    if dry_run:
        _show_plan(Runner(options, say).plan(models))
        return
    from della_bench.cli.watching import watching

    others: list[Watcher] = []
    if track is not None:
        from della_bench.run.tracking import Tracking

        others.append(Tracking(track, track_project))
    with watching(sys.stderr.isatty(), options.money) as shown:
        faults = Runner(options, say, watcher=Watchers([shown, *others])).run(models)
    if faults:
        raise DellaBenchError("\n".join(faults))


def _settle_output() -> None:
    """Keep other packages' bars and remarks out of what is shown of the steps."""
    import logging
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def _arguments(text: str | None, device: str | None, batch_size: str) -> dict[str, Any]:
    """Return the model type's arguments, read as lm-eval reads them."""
    from della_bench.errors import SpecError
    from della_bench.models.arguments import SPEC_NAMES, doubled_names
    from della_bench.spec.own_keys import own_key_names

    out: dict[str, Any] = {"batch_size": int(batch_size) if batch_size.isdecimal() else batch_size}
    if device is not None:
        out["device"] = device
    if text:
        from lm_eval.utils import simple_parse_args_string

        faults = doubled_names(text)
        given = simple_parse_args_string(text)
        of_spec = SPEC_NAMES | own_key_names()
        faults += [f"--model-args {name}=...: belongs to the spec" for name in given if name in of_spec]
        if faults:
            raise SpecError(faults)
        out |= given
    return out


def _dollars(option: str, text: str | None) -> Decimal | None:
    from decimal import Decimal, InvalidOperation

    if text is None:
        return None
    try:
        number = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0:
        raise typer.BadParameter(f"{option} {text}: US dollars, such as 2.50")
    return number


def _show_plan(plan: Iterable[Planned]) -> None:
    from decimal import Decimal

    from della_bench.cli.console import plain_table, say
    from della_bench.cli.terminal import Terminal
    from della_bench.visible import visible_line

    shown = plain_table("model", "benchmark", "step", "", "about $")
    steps = list(plan)
    for step in steps:
        state = "done" if step.done else "to do"
        cost = "unknown" if step.cost is None else f"{step.cost:.2f}" if step.cost else ""
        texts = (step.spec.display_name, step.benchmark.name, step.what, state, cost)
        shown.add_row(*map(visible_line, texts))
    Terminal().print(shown)
    open_steps = sum(not step.done for step in steps)
    total = sum((step.cost for step in steps if step.cost is not None), Decimal(0))
    unknown = sum(step.cost is None for step in steps)
    more = f", and {unknown} of unknown price" if unknown else ""
    say(f"{open_steps} of {len(steps)} steps to do, about ${total:.2f} for judges{more}")
