"""`della-bench search`: the best merge of a space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from della_bench.cli.engine_options import (
    Annotator,
    BatchSize,
    Device,
    Engine,
    IncludePath,
    Judge,
    ModelArgs,
    Unsafe,
    dollars,
    engine_arguments,
    settle_output,
)
from della_bench.cli.eval_options import (
    ApplyChatTemplate,
    FewshotAsMultiturn,
    GenKwargs,
    MaxBatchSize,
    Metadata,
    NumFewshot,
    Seed,
    SystemInstruction,
    given_settings,
    layered_settings,
)
from della_bench.cli.worker_options import (
    CpusPerWorker,
    GpusPerWorker,
    RayAddress,
    Workers,
    told_with_the_cluster,
    wanted_workers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from della_bench.errors import Faults
    from della_bench.run.options import Options
    from della_bench.search.plan import Plan

__all__ = ["search"]


def search(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE", help="A spec with ranges: a YAML file, or key=value,... with density=0.2..0.9."
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder of the search.", show_default=False)
    ] = None,
    benchmarks: Annotated[
        str | None, typer.Option(metavar="A,B...", help="What to search for; the space file's where left out.")
    ] = None,
    maximize: Annotated[
        str | None, typer.Option(metavar="mean|A,B...", help="The mean of the benchmarks, or several numbers at once.")
    ] = None,
    trials: Annotated[int | None, typer.Option(metavar="N", help="Most candidates. [default: 60]")] = None,
    time: Annotated[str | None, typer.Option(metavar="TIME", help="Most time, such as 90s, 30m or 2h.")] = None,
    patience: Annotated[
        int | None, typer.Option(metavar="N", help="End after so many candidates in a row that bring nothing better.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="NAME", help="tpe, gp, cmaes, nsga2, grid, qmc or random. [default: tpe]")
    ] = None,
    search_seed: Annotated[
        int | None,
        typer.Option("--search-seed", metavar="N", help="Of proposals and of the items' order. [default: 0]"),
    ] = None,
    race: Annotated[
        bool, typer.Option("--race/--no-race", help="Stop candidates that will not be the best.", show_default=False)
    ] = True,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="A database of Optuna's. [default: a journal file in DIR]")
    ] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option("--warm-start", metavar="RUNS", help="Folders with earlier runs to begin with; repeatable."),
    ] = None,
    include_path: IncludePath = None,
    engine: Engine = "hf",
    device: Device = None,
    batch_size: BatchSize = "8",
    max_batch_size: MaxBatchSize = None,
    model_args: ModelArgs = None,
    workers: Workers = None,
    ray: RayAddress = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = None,
    num_fewshot: NumFewshot = None,
    gen_kwargs: GenKwargs = None,
    apply_chat_template: ApplyChatTemplate = None,
    fewshot_as_multiturn: FewshotAsMultiturn = None,
    system_instruction: SystemInstruction = None,
    seed: Seed = None,
    metadata: Metadata = None,
    judge: Judge = "exact",
    annotator: Annotator = "alpaca_eval_gpt4",
    max_cost: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Most that all judges of this search may cost together.")
    ] = None,
    unsafe: Unsafe = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the page there, too. [default: DIR/search.html]"),
    ] = None,
    force_new: Annotated[
        bool, typer.Option("--force-new", help="Where DIR holds another search, start in a folder beside it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the space, the items and the expected cost; do nothing.")
    ] = False,
    show: Annotated[
        Path | None, typer.Option("--show", metavar="DIR", help="Print how the search in DIR stands; do nothing.")
    ] = None,
) -> None:
    """Find the merge of a space that does best, on items that choose it, and report it on items that did not.

    Started again, it goes on where it was. The winner's spec, its scores and the page are in DIR.
    """
    import sys

    settle_output()
    from della_bench.cli.console import one_of, say, show_warnings
    from della_bench.errors import Faults, UsageError

    show_warnings()
    if show is not None:
        from della_bench.cli.search_show import show_search

        show_search(show)
        return
    if not space or out is None:
        lacking = (
            [] if space else ["SPACE is missing: a YAML file, or key=value,... with ranges such as density=0.2..0.9"]
        )
        lacking += ["--out is missing: the folder of the search"] if out is None else []
        raise UsageError("\n".join(lacking))
    from della_bench.run.options import Options
    from della_bench.run.settings import EvalSettings

    faults = Faults()
    given, unreadable = given_settings(
        num_fewshot=num_fewshot,
        gen_kwargs=gen_kwargs,
        apply_chat_template=apply_chat_template,
        fewshot_as_multiturn=fewshot_as_multiturn,
        system_instruction=system_instruction,
        limit=None,  # the search itself chooses documents, and scores them
        samples=None,
        predict_only=None,
        seed=seed,
        metadata=metadata,
    )
    faults.add(*unreadable)
    asked: EvalSettings = layered_settings(None, given, faults)[0]
    engine = faults.of(lambda: one_of("--engine", engine, ("hf", "vllm")), "hf")
    wanted, arguments = wanted_workers(
        workers,
        ray,
        gpus_per_worker,
        cpus_per_worker,
        engine=engine,
        arguments=engine_arguments(model_args, device, batch_size, max_batch_size, faults),
        faults=faults,
    )
    options = Options(
        out=out,
        benchmarks=(),
        include_path=include_path,
        engine=engine,
        arguments=arguments,
        settings=asked,
        unsafe=unsafe,
        judge=judge,
        annotator=annotator,
        max_cost=faults.of(lambda: dollars("--max-cost", max_cost), None),
    )
    over = {
        "benchmarks": benchmarks,
        "maximize": maximize,
        "trials": trials,
        "time": time,
        "patience": patience,
        "sampler": sampler,
        "seed": search_seed,
        "race": None if race else False,
    }
    if html is not None and html.is_dir():
        faults.add(f"--html {html}: is a folder; name a file in it")
    with told_with_the_cluster(wanted):
        plan = _plan(space, over, options, storage, warm_start or [], faults)
    if dry_run:
        from della_bench.cli.search_show import show_plan
        from della_bench.search.plan import check_sources

        check_sources(plan, download=False)
        show_plan(plan)
        return
    from della_bench.cli.search_watching import watching
    from della_bench.search.search import Search

    plan = _beside(plan) if force_new else plan
    with watching(sys.stderr.isatty(), plan) as shown:
        try:
            outcome = Search(plan, shown, wanted).run()
        except KeyboardInterrupt:
            say(
                f"stopped; the same command goes on where it was, and --show {plan.out} says how it stands",
                err=True,
            )
            raise typer.Exit(130) from None
    from della_bench.cli.search_show import show_outcome
    from della_bench.search.page import write_page

    for path in (plan.out / "search.html", *([html] if html else [])):
        write_page(plan, outcome, path)
    show_outcome(plan, outcome)


def _plan(
    space: str,
    over: Mapping[str, Any],
    options: Options,
    storage: str | None,
    warm_start: list[Path],
    faults: Faults,
) -> Plan:
    """Return the plan of what is asked for. Raises UsageError with all faults."""
    from della_bench.search.plan import make_plan
    from della_bench.search.reading import SEARCH, read_space, space_mapping
    from della_bench.search.settings import read_settings

    mapping: tuple[dict[str, Any], bool] | None = faults.of(lambda: space_mapping(space), None)
    keys, text = mapping or ({}, False)
    inside = keys.get(SEARCH, {})
    if not isinstance(inside, dict):
        faults.add(f"{SEARCH}: holds {type(inside).__name__}, not a mapping of keys to values")
        inside = {}
    found = faults.of(lambda: read_space(keys, text=text), None) if mapping else None
    settings = faults.of(lambda: read_settings(inside, over), None)
    names = over.get("benchmarks") or inside.get("benchmarks") or []
    if settings is None and names:  # else the plan looks at them
        from della_bench.run.tasks import Tasks

        listed = names.split(",") if isinstance(names, str) else names
        if isinstance(listed, list) and all(isinstance(name, str) and name.strip() for name in listed):
            faults.of(lambda: Tasks(listed, include_path=options.include_path, unsafe=True), None)
    return make_plan(found, settings, options, storage=storage, warm_start=warm_start, faults=faults)


def _beside(plan: Plan) -> Plan:
    """Return the plan in a folder of its own, where its folder holds another search."""
    from dataclasses import replace

    from della_bench.cli.console import say
    from della_bench.search.definition import differences_from, kept_definition

    number = 1
    out = plan.out
    while (kept := kept_definition(out)) is not None and differences_from(kept, plan):
        number += 1
        named = plan.out if plan.out.name not in ("", "..") else plan.out.resolve()
        out = named.with_name(f"{named.name}-{number}")
    if out != plan.out:
        say(f"{plan.out} holds another search: this one is in {out}", err=True)
    return replace(plan, options=replace(plan.options, out=out))
