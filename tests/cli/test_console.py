"""What the commands share."""

from __future__ import annotations

import io
import logging
import sys

from della_bench.cli.console import show_warnings


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
