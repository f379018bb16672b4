"""What the commands share."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from della_bench import cli
from della_bench.cli.console import plain_table, say, say_data, show_warnings
from della_bench.cli.terminal import Terminal
from della_bench.errors import DataError
from della_bench.plugin import render_error
from della_bench.visible import visible

CLI = Path(cli.__file__).parent
EVIL = "\x1b[2J\x1b]0;title\x07over\rwritten\u202eright to left"


def test_warnings_reach_the_stderr_of_the_moment(monkeypatch):
    logger = logging.getLogger("della_bench")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    show_warnings()
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    show_warnings()
    logging.getLogger("della_bench.anything").warning("mind the %s", "gap")
    assert second.getvalue() == "della_bench: WARNING: mind the gap\n"


def test_a_log_shows_control_characters_and_does_not_send_them(monkeypatch):
    logger = logging.getLogger("della_bench")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    show_warnings()
    logging.getLogger("della_bench.anything").warning("the model said %s", EVIL)
    assert stderr.getvalue() == f"della_bench: WARNING: the model said {visible(EVIL)}\n"


def test_a_command_says_a_warning_once_and_the_next_command_says_it_again(monkeypatch):
    monkeypatch.setattr(logging.getLogger("della_bench"), "handlers", [])
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    for _ in range(2):
        show_warnings()
        for _ in range(3):
            logging.getLogger("della_bench.judging").warning("the end of %s was announced", "gpt-4")
    assert stderr.getvalue().count("the end of gpt-4") == 2


def test_what_stands_in_a_table_is_text_and_no_markup():
    out = io.StringIO()
    table = plain_table("[red]head[/red]")
    table.add_row("[bold]cell[/bold] [/]")
    Terminal(file=out, width=80).print(table)
    assert "[red]head[/red]" in out.getvalue()
    assert "[bold]cell[/bold] [/]" in out.getvalue()


@pytest.mark.parametrize("path", sorted(CLI.rglob("*.py")), ids=lambda path: str(path.relative_to(CLI)))
def test_commands_print_by_what_shows_control_characters(path):
    if path.name in ("console.py", "terminal.py"):
        return
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not called & {"print", "typer.echo", "typer.secho", "Console", "rich.print"}


def test_a_spec_is_shown_as_it_is_whatever_its_name_holds(capsys):
    with pytest.raises(SystemExit):
        cli.main(["spec", json.dumps({"base": "zoo:base", "experts": "zoo:math", "name": f"[/red][bold]{EVIL}",
                                      "merge_method": "passthrough"})])  # fmt: skip
    assert f"[/red][bold]{visible(EVIL)}" in capsys.readouterr().out


@pytest.mark.parametrize("renderable", [EVIL, Text(EVIL), Text(EVIL, style="red")], ids=["str", "text", "styled"])
def test_a_console_sends_its_own_colours_and_no_others(renderable):
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, color_system="standard", width=200)
    table = Table("name")
    table.add_row(renderable)
    console.print(renderable, markup=False)
    console.print(table)
    sent = out.getvalue()
    assert "\x1b[2J" not in sent
    assert "\x1b]" not in sent
    assert "\\x1b[2J" in sent
    assert not {"\x07", "\u202e", "\r"} & set(sent)


def test_lines_for_people_and_errors_are_made_visible(capsys):
    say(f"model {EVIL}")
    say(f"note: {EVIL}", err=True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"model {visible(EVIL)}\n", f"note: {visible(EVIL)}\n")
    assert render_error(DataError(f"{EVIL}\nsecond")) == f"della_bench: error: {visible(EVIL)}\n  second"


def test_data_is_made_visible_on_a_terminal_alone(capsys, monkeypatch):
    say_data(f"name,{EVIL}\n")
    assert capsys.readouterr().out == f"name,{EVIL}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say_data(f"name,{EVIL}\n")
    assert capsys.readouterr().out == f"name,{visible(EVIL)}\n"
