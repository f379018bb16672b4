"""A stand-in for the sandbox that runs the tests' own programs in this process: no isolation, but real verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from della_bench.scoring.code import score, task, verdicts
from della_bench.scoring.sandbox import Level, Limits, Outcome, Program

__all__ = ["LEVEL", "Calls", "use_fake_sandbox"]

LEVEL = Level("bubblewrap")


class Calls(list[dict[str, Any]]):
    """The keyword arguments of each call of `run`."""


def use_fake_sandbox(
    monkeypatch: pytest.MonkeyPatch, *, faults: Collection[str] = (), backwards: bool = False
) -> Calls:
    """Put the stand-in where programs are run; problems whose key is in `faults` get the verdict `sandbox`.

    backwards: let the last program end first.
    """
    calls = Calls()

    def run(
        programs: Sequence[Program],
        limits: Limits | None = None,
        *,
        progress: Callable[[int, Outcome], None] | None = None,
        **options: Any,
    ) -> list[Outcome]:
        calls.append({"programs": list(programs), "limits": limits, **options})
        outcomes = [
            Outcome("sandbox", "the worker died") if program.key in faults else _outcome(program, options)
            for program in programs
        ]
        for index in sorted(range(len(programs)), reverse=backwards):
            if progress:
                progress(index, outcomes[index])
        return outcomes

    monkeypatch.setattr(verdicts, "run", run)
    for module in (score, task):
        monkeypatch.setattr(module, "find_level", lambda **_: LEVEL)
    return calls


def _outcome(program: Program, options: dict[str, Any]) -> Outcome:
    if not program.code.strip() and not options.get("in_one_namespace"):
        return Outcome("empty")
    names: dict[str, Any] = {}
    try:
        exec(compile(program.code, "candidate", "exec"), names)
        exec(compile("\n".join([program.setup, program.test_source]), "tests", "exec"), names)
    except SyntaxError as error:
        return Outcome("syntax", str(error))
    except AssertionError:
        return Outcome("failed", program.test_source)
    except Exception as error:
        return Outcome("error", f"{type(error).__name__}: {error}")
    return Outcome("passed")
