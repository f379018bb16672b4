"""The parent's side of the process in which alpaca_eval runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from della_bench.errors import JudgeError
from della_bench.judging.alpaca.reference import ReferenceRow
from della_bench.judging.json_types import ChatRequest, Completion

__all__ = ["Ask", "Job", "Judged", "LeaderboardRow", "installed_folder", "run_alpaca_eval"]

Ask = Callable[[Sequence[ChatRequest], int], Sequence[Completion | None]]
"""Gets chat requests and which attempt it is at them (from 0), and returns one completion or None each, in order."""

# What alpaca_eval and the libraries below it read at their import: keys, which it has no use for here, and defaults.
_PREFIXES = ("OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_", "GOOGLE_", "COHERE_", "REPLICATE_", "API_", "DATASETS_")
_LOG_LINES = 15


@dataclass(frozen=True)
class Job:
    """What alpaca_eval is to do; all paths absolute.

    `annotator` is the folder of its configuration; `metric` is win_rate or length_controlled_winrate, which needs
    `gamed`, the published annotations. `model_outputs` and `reference` are rows of alpaca_eval's format, one for one.
    A reply in which no preference can be read is asked for again until there were `attempts`. `leaderboard` is one of
    alpaca_eval's that the model is appended to; its own row there is made anew.
    """

    annotator: str
    name: str
    model_outputs: list[ReferenceRow]
    reference: list[ReferenceRow]
    out: str
    metric: str
    gamed: str | None
    attempts: int
    leaderboard: str | None = None


class LeaderboardRow(TypedDict, total=False):
    """The numbers of alpaca_eval's leaderboard that are used, shares in percent; it has more, which are kept."""

    win_rate: float | None
    length_controlled_winrate: float | None
    standard_error: float | None
    lc_standard_error: float | None
    n_total: int


@dataclass(frozen=True)
class Judged:
    """What alpaca_eval made of it: its leaderboard's row, and a preference (1.0 to 2.0, None) and reply a row."""

    leaderboard: LeaderboardRow
    preferences: list[float | None]
    completions: list[str]


def installed_folder() -> Path:
    """Return where alpaca_eval is installed, without importing it. Raises JudgeError that names the extra."""
    spec = find_spec("alpaca_eval")
    if spec is None or spec.origin is None:
        raise JudgeError(
            "AlpacaEval is judged with the alpaca_eval package, which is not installed: "
            "pip install 'della-bench[alpaca]'",
            exit_code=2,
        )
    return Path(spec.origin).parent


def run_alpaca_eval(job: Job, ask: Ask, log: Path) -> Judged:
    """Run `job` in a process of its own, with `ask` for the model that it wants to ask; its log goes to `log`.

    What `ask` raises ends the process and is raised again. Raises JudgeError where alpaca_eval fails.
    """
    installed_folder()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "della_bench.judging.alpaca.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=_environment(os.environ),
            text=True,
            encoding="utf-8",
        )
        try:
            answer = _serve(process, job, ask)
        finally:
            process.kill()
            process.communicate()
    if answer is None:
        raise _failed(log)
    return Judged(**answer)


def _serve(process: subprocess.Popen[str], job: Job, ask: Ask) -> dict[str, Any] | None:
    """Answer what the process asks until it returns its result, or None where it ends without one."""
    assert process.stdout is not None
    try:
        _send(process, asdict(job))
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "ask" not in message:
                return message
            _send(process, {"replies": list(ask(message["ask"], message["attempt"]))})
    except BrokenPipeError:
        pass  # it ended while it was written to: its log says why
    return None


def _send(process: subprocess.Popen[str], value: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value) + "\n")
    process.stdin.flush()


def _environment(ours: os._Environ[str]) -> dict[str, str]:
    """Return the environment without what flips alpaca_eval's defaults or holds a key."""
    kept = {name: value for name, value in ours.items() if not name.startswith(_PREFIXES)}
    kept.pop("IS_ALPACA_EVAL_2", None)
    kept.setdefault("LOGNAME", "della_bench")  # it asks for the user's name, which a container may not have
    kept["PYTHON_DOTENV_DISABLED"] = "1"
    return kept


def _failed(log: Path) -> JudgeError:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = "\n".join(f"  {line}" for line in lines[-_LOG_LINES:]) or "  (it wrote nothing)"
    return JudgeError(f"alpaca_eval ended without a result; what was paid for is kept. {log} ends with:\n{last}")
