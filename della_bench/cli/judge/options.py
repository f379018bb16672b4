"""What the judges' commands share: options for asking a model, a progress bar, and how an estimate is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from della_bench.errors import DellaBenchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from della_bench.judging.cost import Price
    from della_bench.judging.policy import Tally
    from della_bench.judging.settings import JudgeSettings
    from della_bench.results.schema import Score

__all__ = [
    "ApiKeyFileOption",
    "AzureOption",
    "BaseUrlOption",
    "BatchOption",
    "CacheOption",
    "ConcurrencyOption",
    "DryRunOption",
    "JudgeCommand",
    "LimitOption",
    "MaxCostOption",
    "ModelOption",
    "OutOption",
    "PriceOption",
    "ReplaceOption",
    "RequestsOption",
    "ResumeOption",
    "RetryUnscoredOption",
    "SamplesArgument",
    "TimeoutOption",
    "TokensOption",
    "dollars",
    "end_with_failure_if_nothing_is_scored",
    "make_settings",
    "parse_price",
    "progress_bar",
]

_ASKING = "Asking the model"
_MONEY = "Money"

SamplesArgument = Annotated[
    Path, typer.Argument(metavar="SAMPLES", help="samples_*.jsonl of lm-eval, or another file the judge can read.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write below this folder, not the samples'.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only so many answers, the first ones.")]
RetryUnscoredOption = Annotated[
    bool, typer.Option("--retry-unscored", help="Ask again where an earlier run found no verdict.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Put the score in the place of another input's of the same name.")
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume/--no-resume", help="Keep what an earlier run settled, or settle it anew out of the cache."),
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="An OpenAI-compatible server, such as http://127.0.0.1:8000/v1.",
                 rich_help_panel=_ASKING),
]  # fmt: skip
AzureOption = Annotated[
    bool,
    typer.Option("--azure", help="Ask the Azure endpoint that AZURE_OPENAI_ENDPOINT names.", rich_help_panel=_ASKING),
]
ApiKeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        metavar="FILE",
        help="Take the key from FILE: the key alone, or JSON as the DELLA authors' judge reads it (Azure too).",
        rich_help_panel=_ASKING,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Ask for this model; on Azure, this deployment.", rich_help_panel=_ASKING),
]
ConcurrencyOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Most requests under way at once.", rich_help_panel=_ASKING)
]
RequestsOption = Annotated[
    float | None,
    typer.Option("--requests-per-minute", min=0.01, help="Most requests a minute.", rich_help_panel=_ASKING),
]
TokensOption = Annotated[
    float | None,
    typer.Option(
        "--tokens-per-minute",
        min=1,
        help="Most tokens a minute; an answer counts at its bound.",
        rich_help_panel=_ASKING,
    ),
]
TimeoutOption = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="Longest wait for one answer.", rich_help_panel=_ASKING)
]
CacheOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where answers are kept (default: the user's cache folder).",
                 rich_help_panel=_ASKING),
]  # fmt: skip
BatchOption = Annotated[
    bool, typer.Option("--batch", help="By the batch interface: half the price, within a day.", rich_help_panel=_MONEY)
]
MaxCostOption = Annotated[
    float | None,
    typer.Option("--max-cost", min=0, metavar="DOLLARS", help="Most that this run may spend.", rich_help_panel=_MONEY),
]
PriceOption = Annotated[
    str | None,
    typer.Option(
        metavar="IN,OUT", help="Dollars per million tokens, in the place of the known price.", rich_help_panel=_MONEY
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print requests, tokens and cost; ask nobody.", rich_help_panel=_MONEY)
]


class JudgeCommand(TyperCommand):
    """A command that names its options in errors: below cli/ they speak of settings, in backticks, as Python does."""

    def invoke(self, ctx: Any) -> object:  # noqa: D102
        try:
            return super().invoke(ctx)
        except DellaBenchError as error:
            flags = {
                parameter.name: parameter.opts[0] for parameter in self.params if parameter.opts[0].startswith("-")
            }
            error.args = (re.sub(r"`(\w+)`", lambda setting: flags.get(setting[1], setting[0]), str(error)),)
            raise


def make_settings(
    *,
    base_url: str | None,
    azure: bool,
    model: str | None,
    concurrency: int,
    requests_per_minute: float | None,
    tokens_per_minute: float | None,
    timeout: float,
    max_cost: float | None,
    cache: Path | None,
    retry_unscored: bool = False,
    batch: bool = False,
    resume: bool = True,
    api_key_file: Path | None = None,
) -> JudgeSettings:
    """Return what the options say. Raises JudgeError where they contradict each other.

    A key file gives server and model where no option does.
    """
    from decimal import Decimal

    from della_bench.judging.limiter import Limits
    from della_bench.judging.policy import RetryPolicy
    from della_bench.judging.server import Server
    from della_bench.judging.settings import JudgeSettings

    if api_key_file is not None:
        from della_bench.judging.key_file import use_key_file

        said = use_key_file(api_key_file)
        model = model or said.model
        if base_url is None:
            azure, base_url = azure or said.azure, said.base_url
    return JudgeSettings(
        server=Server(base_url, azure),
        model=model,
        retry_policy=RetryPolicy(timeout=timeout),
        limits=Limits(concurrency, requests_per_minute, tokens_per_minute),
        max_cost=None if max_cost is None else Decimal(str(max_cost)),
        cache=cache,
        retry_unscored=retry_unscored,
        batch=batch,
        resume=resume,
    )


def parse_price(text: str | None) -> Price | None:
    """Return the price that `--price` gives."""
    if text is None:
        return None
    from decimal import Decimal, InvalidOperation

    from della_bench.judging.cost import Price

    try:
        prompt, completion = map(Decimal, text.split(","))
    except (ValueError, InvalidOperation):
        prompt = completion = Decimal(-1)
    if not (prompt.is_finite() and completion.is_finite() and min(prompt, completion) >= 0):
        raise typer.BadParameter(f"{text!r}: two amounts of dollars, such as 2.5,10", param_hint="--price")
    return Price(prompt, completion)


def end_with_failure_if_nothing_is_scored(score: Score) -> None:
    """End the command with 1 where no answer at all could be judged: whoever called it must not take it for done."""
    if score["value"] is None and score["unscored"]:
        raise typer.Exit(1)


def dollars(value: Decimal | float | None) -> str:
    """Return an amount for people; small ones with the digits they need."""
    if value is None:
        return "unknown"
    return f"${value:.2f}" if value >= 1 or not value else f"${value:.4f}"


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int, Tally], None] | None]:
    """Yield a function that shows what is done, how fast, at what cost and how long it will take; None where nobody
    watches.
    """
    import sys

    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from della_bench.cli.terminal import Terminal

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[cost]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Terminal(stderr=True)) as bar:
        task = bar.add_task(what, total=None, rate="", cost="")

        def show(done: int, total: int, tally: Tally) -> None:
            speed = bar.tasks[0].speed
            bar.update(
                task,
                completed=done,
                total=total,
                rate=f"{speed:.1f}/s" if speed else "",
                cost=dollars(tally.cost),
            )

        yield show
