"""`della-bench run`: from specs to scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from della_bench.benchmarks import BENCHMARKS
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
from della_bench.cli.worker_options import CpusPerWorker, GpusPerWorker, RayAddress, Workers, wanted_workers

if TYPE_CHECKING:
    from decimal import Decimal

    from della_bench.run.watching import Watcher
    from della_bench.spec import MergeSpec

__all__ = ["dollars", "engine_arguments", "run", "settle_output"]

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
    max_batch_size: MaxBatchSize = None,
    model_args: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE,...", help="More arguments of lm-eval's model type.")
    ] = None,
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
    if max_batch_size is not None and not batch_size.startswith("auto"):
        faults.add(f"--max-batch-size {max_batch_size}: needs --batch-size auto, and that is {batch_size}")
    none: list[MergeSpec] = []
    specs_read = faults.of(lambda: read_specs(specs), none)
    engine = faults.of(lambda: one_of("--engine", engine, ("hf", "vllm")), "hf")
    wanted, arguments = wanted_workers(
        workers,
        ray,
        gpus_per_worker,
        cpus_per_worker,
        engine=engine,
        arguments=faults.of(lambda: engine_arguments(model_args, device, batch_size, max_batch_size), {}),
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
        max_cost=dollars("--max-cost", max_cost),
        max_cost_each=dollars("--max-cost-each", max_cost_each),
    )
    if not options.benchmarks:
        faults.add("--benchmarks: none are named, neither here nor in a file of settings (--config)")
    from della_bench.cli.plan import show_plan, show_settings
    from della_bench.cli.watching import watching

    def runner(watcher: Watcher | None = None) -> Runner:
        made = faults.of(lambda: Runner(options, say, watcher=watcher, workers=wanted), None)
        faults.raise_them()
        assert made is not None
        return made

    def models() -> list[MergeSpec]:
        return with_references(specs_read, base=with_base, experts=with_experts)

    if dry_run:
        planned = runner()
        show_settings(planned, models())
        show_plan(planned.plan(models()))
        return
    others: list[Watcher] = []
    if track is not None:
        from della_bench.run.tracking import Tracking

        others.append(Tracking(track, track_project))
    with watching(sys.stderr.isatty(), options.money) as shown:
        made = runner(Watchers([shown, *others]))
        if write_out:
            show_settings(made, models())
        failed = made.run(models())
    for name, seconds in made.seconds.items():
        say(f"{name}: {seconds}", err=True)
    if failed:
        raise DellaBenchError("\n".join(failed))


def settle_output() -> None:
    """Keep other packages' bars and remarks out of what is shown of the steps."""
    import logging
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def engine_arguments(
    text: str | None, device: str | None, batch_size: str, max_batch_size: int | None
) -> dict[str, Any]:
    """Return the model type's arguments, read as lm-eval reads them."""
    from della_bench.errors import SpecError
    from della_bench.models.arguments import SPEC_NAMES, doubled_names
    from della_bench.spec.own_keys import own_key_names

    out: dict[str, Any] = {"batch_size": int(batch_size) if batch_size.isdecimal() else batch_size}
    if device is not None:
        out["device"] = device
    if max_batch_size is not None:
        out["max_batch_size"] = max_batch_size
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


def dollars(option: str, text: str | None) -> Decimal | None:
    """Return an option's US dollars. Raises BadParameter that names the option."""
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
