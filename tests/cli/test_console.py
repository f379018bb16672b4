"""What the commands share."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.table import Table
from rich.text import Text

from della_bench.cli.console import say, say_data, show_warnings
from della_bench.cli.terminal import Terminal
from della_bench.errors import DataError
from della_bench.plugin import render_error
from della_bench.visible import visible

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
