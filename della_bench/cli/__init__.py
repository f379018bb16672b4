"""`della-bench`: the command line. One file a command; each imports what it needs when it runs."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from typing import Annotated, Any

import typer

import della_bench
from della_bench.cli import (
    compare,
    demo,
    info,
    judge,
    leaderboard,
    merge,
    methods,
    run,
    score,
    search,
    serve,
    show,
    spec,
)
from della_bench.cli.eval_options import EvalCommand
from della_bench.errors import DellaBenchError, UsageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="della-bench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich is slow to import, and help must be quick
    help="Merge language models in memory and evaluate the merge with lm-evaluation-harness.",
    epilog="To evaluate: lm_eval --model della_merged --model_args SPEC --tasks TASKS",
)


def _version(wanted: bool) -> None:
    if wanted:
        from della_bench.cli.console import say

        say(f"della-bench {della_bench.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("spec")(spec.spec)
app.command("methods")(methods.methods)
app.command("merge")(merge.merge)
app.command("demo")(demo.demo)
app.command("run", cls=EvalCommand)(run.run)
app.command("search", cls=EvalCommand)(search.search)
app.command("score")(score.score)
app.add_typer(judge.app, name="judge")
app.command("leaderboard")(leaderboard.leaderboard)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("info")(info.info)
app.command("serve", context_settings=serve.PASS_ON)(serve.serve)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends with 0, 2 for the user's mistakes, 1 for other errors.

    `--debug` may stand anywhere.
    """
    for stream in (sys.stdout, sys.stderr):  # an escape in the place of what its encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    atexit.register(gc.freeze)  # the end of the process takes everything; a last collection would take longer
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments or os.environ.get("DELLA_BENCH_DEBUG", "0") not in ("", "0")
    try:
        app([argument for argument in arguments if argument != "--debug"], prog_name="della-bench")
    except DellaBenchError as error:
        if debug:
            raise
        from della_bench.cli.console import say
        from della_bench.plugin import render_error

        if isinstance(error, UsageError) and (option := _option_of(error.argument, arguments)):
            error = UsageError(f"{option}: {error.message}", exit_code=error.exit_code)
        say(render_error(error), err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written, a path that is not there
        if debug or error.errno is None:
            raise
        from della_bench.cli.console import say
        from della_bench.plugin import render_error

        where = f"{error.filename}: " if error.filename is not None else ""
        say(render_error(DellaBenchError(f"{where}{error.strerror}")), err=True)
        sys.exit(1)


def _option_of(argument: str | None, arguments: list[str]) -> str | None:
    """Return what the command that was called names the option of a Python argument, None where it has none."""
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    for parameter in command.params:
        if parameter.name == argument:
            return next((name for name in parameter.opts if name.startswith("--")), None)
    return None
