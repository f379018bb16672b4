"""`della-bench judge gsm8k`: correct or wrong, by a model that sees the reference, or by the final number alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from della_bench.cli.judge import options

if TYPE_CHECKING:
    from della_bench.judging.cost import Estimate
    from della_bench.judging.policy import Tally
    from della_bench.results.schema import Score

__all__ = ["gsm8k"]


def gsm8k(
    samples: options.SamplesArgument,
    judge: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A shipped judge, a judge's folder, or exact: no model is asked.")
    ] = "gsm8k_gpt4",
    out: options.OutOption = None,
    votes: Annotated[int, typer.Option(min=1, max=99, help="Votes on each answer; the majority counts.")] = 1,
    wanted_filter: Annotated[
        str | None, typer.Option("--filter", metavar="NAME", help="Which filter's rows, where their answers differ.")
    ] = None,
    limit: options.LimitOption = None,
    resume: options.ResumeOption = True,
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
    """Judge answers to GSM8K's problems.

    SAMPLES: samples_*.jsonl of lm-eval, the one JSON array of its older releases, or rows with question, target and
    response.
    """
    from della_bench.cli.console import show_warnings
    from della_bench.judging.gsm8k.estimate import estimate_gsm8k
    from della_bench.judging.gsm8k.judge import judge_gsm8k

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
        resume=resume,
    )
    if dry_run:
        estimate = estimate_gsm8k(
            samples,
            judge,
            settings=settings,
            votes=votes,
            limit=limit,
            wanted_filter=wanted_filter,
            price=options.parse_price(price),
        )
        _show_estimate(estimate)
        return
    last: list[Tally] = []
    with options.progress_bar("gsm8k") as show:

        def progress(done: int, total: int, tally: Tally) -> None:
            last[:] = [tally]
            if show is not None:
                show(done, total, tally)

        score = judge_gsm8k(
            samples,
            out,
            judge,
            settings=settings,
            votes=votes,
            limit=limit,
            wanted_filter=wanted_filter,
            progress=progress,
            price=options.parse_price(price),
            replace=replace,
        )
    _show_score(score, out or samples.parent, last[0] if last else None)
    options.end_with_failure_if_nothing_is_scored(score)


def _show_estimate(estimate: Estimate) -> None:
    from della_bench.cli.console import say

    lines = {
        "judge": f"{estimate.judge} ({estimate.model or 'asks no model'})",
        "answers": estimate.answers,
        "requests": f"{estimate.requests} ({estimate.known} more are known already)",
        "tokens": f"about {estimate.prompt_tokens} in, {estimate.completion_tokens} out",
        "cost": f"about {options.dollars(estimate.cost)}; at most {options.dollars(estimate.worst_cost)} "
        "if every reply can be read",
    }
    for label, value in lines.items():
        say(f"{label:9} {value}")


def _show_score(score: Score, out: Path, tally: Tally | None) -> None:
    from della_bench.cli.console import plain_table, say
    from della_bench.cli.terminal import Terminal
    from della_bench.results.formats import number_text
    from della_bench.results.places import score_file

    detail, scorer = score["detail"], score["scorer"]
    table = plain_table("GSM8K by", "percent [95 %]", "agreement", "kappa [95 %]")
    total = score["n"] + score["unscored"]
    table.add_row(scorer["name"] + (f" ({scorer['model']})" if scorer["model"] else ""),
                  number_text(score["value"], _ends(score["interval"])))  # fmt: skip
    for name in ("strict-match", "flexible-extract"):
        metric, agreed = detail[name], detail[name]["agreement"]
        raw = "" if agreed["raw"] is None else f"{agreed['raw']:.1f} %"
        kappa = "undefined" if agreed["kappa"] is None else f"{agreed['kappa']:.3f} [{_pair(agreed['interval'])}]"
        table.add_row(
            f"{name} ({metric['source']})", number_text(metric["value"], _ends(metric["interval"])), raw, kappa
        )
    Terminal().print(table)
    counts = f"{detail['correct']} correct, {detail['incorrect']} incorrect, {score['unscored']} unscored of {total}"
    if score["unscored"]:
        why = ", ".join(f"{number} {kind}" for kind, number in detail["unscored_kinds"].items())
        low, high = detail["bounds"]
        counts += f" ({why}); {low:.1f} to {high:.1f} with the unscored counted wrong or right"
    say(counts)
    if "announced" in detail:
        say(f"{detail['announced']} of {total} answers announce a number")
    if "tokens" in detail:
        tokens, cost = detail["tokens"], options.dollars(detail["cost"])
        spent = (
            f"{detail['replies']} replies, {tokens['prompt']} tokens in and {tokens['completion']} out, {cost} in all"
        )
        say(spent)
    if tally is not None:
        line = f"this run: {tally.requests} requests, {options.dollars(tally.cost)}"
        if tally.lost:
            line += f", and up to {options.dollars(tally.lost)} for answers that got lost"
        say(line)
    say(score_file(out, score))


def _ends(interval: list[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])


def _pair(values: list[float] | None) -> str:
    return "" if values is None else f"{values[0]:.3f}, {values[1]:.3f}"
