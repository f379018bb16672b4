"""`della-bench run`: from specs to scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from della_bench.benchmarks import BENCHMARKS
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
    Limit,
    MaxBatchSize,
    Metadata,
    NumFewshot,
    PredictOnly,
    Samples,
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
    from della_bench.run.watching import Watcher
    from della_bench.spec import MergeSpec

__all__ = ["run"]

_CONFIG = "della_bench.config"  # where the command's context keeps what the file says


def _completed(incomplete: str) -> list[str]:
    """Return what the last of the benchmarks, parted by commas, may become."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in BENCHMARKS if name.startswith(last)]


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Let a file's options be the defaults of those that the command line does not give."""
    if path is not None:
        from della_bench.run.config_file import read_config

        config = read_config(path)
        ctx.meta[_CONFIG] = config
        ctx.default_map = {**(ctx.default_map or {}), **config.options}
    return path


def run(
    ctx: typer.Context,
    specs: Annotated[
        list[str],
        typer.Argument(metavar="SPEC...", help="key=value,key=value..., a JSON object, a YAML file, or a YAML list."),
    ],
    benchmarks: Annotated[
        str,
        typer.Option(
            metavar="A,B...",
            help=f"{', '.join(BENCHMARKS)}, any other task, group or tag of lm-eval, or a task's YAML file.",
            autocompletion=_completed,
        ),
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            is_eager=True,
            callback=_read_config,
            help="YAML file with these settings, by lm-eval's names; the command line wins over it.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of all runs.")] = Path("runs"),
    include_path: IncludePath = None,
    with_base: Annotated[bool, typer.Option("--with-base", help="Evaluate the base, too.")] = False,
    with_experts: Annotated[bool, typer.Option("--with-experts", help="Evaluate each expert alone, too.")] = False,
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
    limit: Limit = None,
    samples: Samples = None,
    predict_only: PredictOnly = None,
    seed: Seed = None,
    metadata: Metadata = None,
    judge: Judge = "exact",
    annotator: Annotator = "alpaca_eval_gpt4",
    max_cost: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Most that all judges of this run may cost together.")
    ] = None,
    max_cost_each: Annotated[
        str | None,
        typer.Option(
            "--max-cost-each", metavar="DOLLARS", help="Most that judging one benchmark of one model may cost."
        ),
    ] = None,
    unsafe: Unsafe = False,
    track: Annotated[
        str | None,
        typer.Option(metavar="TRACKER", help="Send scores to trackio, wandb or mlflow, if installed."),
    ] = None,
    track_project: Annotated[
        str, typer.Option("--track-project", metavar="NAME", help="The tracker's project or experiment.")
    ] = "della-bench",
    force: Annotated[bool, typer.Option("--force", help="Do again what is done.")] = False,
    write_out: Annotated[
        bool, typer.Option("--write-out", help="Print the settings and the first prompt of each benchmark.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print settings, first prompts, the plan and the expected cost; do nothing."),
    ] = False,
) -> None:
    """Evaluate, score and judge models, and print a row for each; started again, it goes on where it was.

    What can be known to be wrong (a key, a server, a price, a device, a source) is said before the first merge.

    Each model has a folder below DIR; `della-bench leaderboard DIR` makes them a table.
    """
    import sys

    settle_output()
    from della_bench.cli.console import one_of, say, show_warnings
    from della_bench.errors import DellaBenchError, Faults
    from della_bench.run.options import Options
    from della_bench.run.preflight import check_asked
    from della_bench.run.runner import Runner
    from della_bench.run.specs import read_specs, with_references
    from della_bench.run.watching import Watchers

    show_warnings()
    faults = Faults()
    given, unreadable = given_settings(
        num_fewshot=num_fewshot,
        gen_kwargs=gen_kwargs,
        apply_chat_template=apply_chat_template,
        fewshot_as_multiturn=fewshot_as_multiturn,
        system_instruction=system_instruction,
        limit=limit,
        samples=samples,
        predict_only=predict_only,
        seed=seed,
        metadata=metadata,
    )
    faults.add(*unreadable)
    settings, by_benchmark = layered_settings(ctx.meta.get(_CONFIG), given, faults)
    none: list[MergeSpec] = []
    specs_read = faults.of(lambda: read_specs(specs), none)
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
        benchmarks=tuple(name.strip() for name in benchmarks.split(",") if name.strip()),
        include_path=include_path,
        engine=engine,
        arguments=arguments,
        settings=settings,
        by_benchmark=by_benchmark,
        force=force,
        unsafe=unsafe,
        judge=judge,
        annotator=annotator,
        max_cost=faults.of(lambda: dollars("--max-cost", max_cost), None),
        max_cost_each=faults.of(lambda: dollars("--max-cost-each", max_cost_each), None),
    )
    if not options.benchmarks:
        faults.add("--benchmarks: none are named, neither here nor in a file of settings (--config)")
    from della_bench.cli.plan import show_plan, show_settings
    from della_bench.cli.watching import watching

    asked = [settings, *(settings.changed(own) for own in by_benchmark.values())]

    def runner(watcher: Watcher | None = None) -> Runner:
        made = faults.of(lambda: Runner(options, say, watcher=watcher, workers=wanted), None)
        if faults.found:  # else the settings are checked with all the rest before the first merge
            faults.of(lambda: made.check_settings(models()) if made else check_asked(models(), asked, options), None)
        with told_with_the_cluster(wanted):
            faults.raise_them()
        assert made is not None
        return made

    def models() -> list[MergeSpec]:
        return with_references(specs_read, base=with_base, experts=with_experts)

    if dry_run:
        planned = runner()
        planned.check_settings(models())
        for error in show_settings(planned, models()):
            faults.note(error)
        cannot = planned.unusable(models())
        show_plan(planned.plan([spec for spec in models() if spec not in cannot]))
        if cannot:
            from della_bench.run.preflight import cannot_be_run

            raise cannot_be_run(cannot)
        faults.raise_them()
        return
    others: list[Watcher] = []
    if track is not None:
        from della_bench.run.tracking import Tracking

        others.append(Tracking(track, track_project))
    with watching(sys.stderr.isatty(), options.money) as shown:
        made = runner(Watchers([shown, *others]))
        if write_out:
            show_settings(made, models())
        try:
            failed = made.run(models())
        except KeyboardInterrupt:
            say("stopped; the same command goes on where it was", err=True)
            raise typer.Exit(130) from None
    for name, seconds in made.seconds.items():
        say(f"{name}: {seconds}", err=True)
    if failed:
        raise DellaBenchError("\n".join(failed))
