"""`della-bench judge alpaca_eval`: win rates against a baseline, by the annotators of the alpaca_eval package."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from della_bench.cli.judge import options

if TYPE_CHECKING:
    from della_bench.judging.alpaca.comparison import Choices
    from della_bench.judging.cost import Estimate
    from della_bench.judging.policy import Tally
    from della_bench.results.schema import Score

__all__ = ["alpaca_eval"]


class Metric(str, Enum):
    """Which number of alpaca_eval is the score."""

    win_rate = "win_rate"
    length_controlled_winrate = "length_controlled_winrate"


def alpaca_eval(
    samples: options.SamplesArgument,
    annotator: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="One that alpaca_eval ships (weighted_alpaca_eval_gpt4_turbo is AlpacaEval 2), or a folder or file of "
            "its format.",
        ),
    ] = "alpaca_eval_gpt4",
    out: options.OutOption = None,
    reference: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another baseline: rows of instruction, output, generator."),
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Default: what AlpacaEval takes with the annotator.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What the leaderboard calls the model.")] = None,
    wanted_filter: Annotated[
        str | None, typer.Option("--filter", metavar="NAME", help="Which filter's rows, where their answers differ.")
    ] = None,
    limit: options.LimitOption = None,
    retry_unscored: options.RetryUnscoredOption = False,
    replace: options.ReplaceOption = False,
    base_url: options.BaseUrlOption = None,
    azure: options.AzureOption = False,
    api_key_file: options.ApiKeyFileOption = None,
    model: options.ModelOption = None,
    concurrency: options.ConcurrencyOption = 32,
    requests_per_minute: options.RequestsOption = None,
    tokens_per_minute: options.TokensOption = None,
    timeout: options.TimeoutOption = 300.0,
    cache: options.CacheOption = None,
    batch: options.BatchOption = False,
    max_cost: options.MaxCostOption = None,
    price: options.PriceOption = None,
    dry_run: options.DryRunOption = False,
) -> None:
    """Compare answers with a baseline's, instruction by instruction.

    SAMPLES: samples_*.jsonl of lm-eval's task alpaca_eval, or a file in alpaca_eval's own format (instruction, output,
    generator).
    """
    from della_bench.cli.console import show_warnings

    show_warnings()
    settings = options.make_settings(
        base_url=base_url,
        azure=azure,
        api_key_file=api_key_file,
        model=model,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        timeout=timeout,
        max_cost=max_cost,
        cache=cache,
        retry_unscored=retry_unscored,
        batch=batch,
    )
    choices: Choices = {
        "reference": reference,
        "metric": None if metric is None else metric.value,
        "name": name,
        "wanted_filter": wanted_filter,
        "limit": limit,
    }
    if dry_run:
        from della_bench.judging.alpaca.estimate import estimate_alpaca_eval

        _show_estimate(
            estimate_alpaca_eval(samples, annotator, settings=settings, price=options.parse_price(price), **choices)
        )
        return
    from della_bench.judging.alpaca.judge import judge_alpaca_eval

    last: list[Tally] = []
    with options.progress_bar("alpaca_eval") as show:

        def progress(done: int, total: int, tally: Tally) -> None:
            last[:] = [tally]
            if show is not None:
                show(done, total, tally)

        score = judge_alpaca_eval(
            samples,
            out,
            annotator,
            settings=settings,
            price=options.parse_price(price),
            progress=progress,
            replace=replace,
            **choices,
        )
    _show_score(score, out or samples.parent, last[0] if last else None)
    options.end_with_failure_if_nothing_is_scored(score)


def _show_estimate(estimate: Estimate) -> None:
    from della_bench.cli.console import say

    say(f"annotator {estimate.judge} ({estimate.model})")
    say(f"answers   {estimate.answers}")
    say(f"requests  {estimate.requests} ({estimate.known} more are known already)")
    say(f"tokens    about {estimate.prompt_tokens} in, {estimate.completion_tokens} out")
    cost, worst = options.dollars(estimate.cost), options.dollars(estimate.worst_cost)
    say(f"cost      about {cost}; at most {worst} if every reply can be read")


def _show_score(score: Score, out: Path, tally: Tally | None) -> None:
    from della_bench.cli.console import say
    from della_bench.results.places import score_file

    detail, scorer, interval = score["detail"], score["scorer"], score["interval"]
    value = "unknown" if score["value"] is None else f"{score['value']:.2f} %"
    if interval is not None:
        value += f" [{interval[0]:.2f}, {interval[1]:.2f}]"
    say(f"{detail['generator']}: {score['metric'].replace('_', ' ')} {value} against {detail['baseline']}")
    say(f"by {scorer['name']} ({scorer['model'] or 'nobody was asked'}), alpaca_eval {scorer['version']}")
    row = detail["alpaca_eval"]
    if score["value"] is not None and score["metric"] != "win_rate":
        say(f"plain win rate {row['win_rate']:.2f} %, standard error {row['standard_error']:.2f}")
    counts = f"n {detail['n_total']} of {detail['n_expected']}"
    if detail["missing"]:
        counts += f" ({detail['missing']} without an answer: a partial run)"
    if detail["n_expected"] != detail["instructions"]:
        counts += f" (AlpacaEval has {detail['instructions']})"
    if score["value"] is not None:
        counts += f": {row['n_wins']} won, {row['n_wins_base']} lost, {row['n_draws']} draws"
    if score["unscored"]:
        low, high = detail["win_rate_bounds"]
        counts += f"; {score['unscored']} unscored: "
        counts += f"win rate {low:.2f} to {high:.2f} % with them counted lost or won"
    say(counts)
    if detail["failures"]:
        say("requests without an answer: " + ", ".join(f"{n} {kind}" for kind, n in detail["failures"].items()))
    tokens = f"{detail['prompt_tokens']} tokens in and {detail['completion_tokens']} out"
    say(f"{detail['replies']} replies, {tokens}, {options.dollars(detail['cost'])} in all")
    if tally is not None:
        line = f"this run: {tally.requests} requests, {options.dollars(tally.cost)}"
        if tally.lost:
            line += f", and up to {options.dollars(tally.lost)} for answers that got lost"
        say(line)
    say(score_file(out, score))
