"""Merge language models on the fly, in memory, and evaluate the merge with lm-evaluation-harness.

The names of `__all__` are the public API; `docs/python.md` has an example for each. They are imported when they are
first asked for, so that `import della_bench` costs neither torch nor pydantic.
"""

TYPE_CHECKING = False  # as typing's, which takes longer to import than a Python start may wait for the hook
if TYPE_CHECKING:
    from della_bench.errors import (
        CheckpointError,
        DataError,
        DellaBenchError,
        JudgeError,
        MergeError,
        SandboxError,
        SpecError,
        UsageError,
    )
    from della_bench.judging.alpaca.judge import judge_alpaca_eval
    from della_bench.judging.gsm8k.estimate import estimate_gsm8k
    from della_bench.judging.gsm8k.judge import judge_gsm8k
    from della_bench.judging.settings import JudgeSettings
    from della_bench.merge.folder import write_folder
    from della_bench.merge.stream import Merge
    from della_bench.models.evaluating import evaluate
    from della_bench.models.hf import DellaMergedLM
    from della_bench.models.loading import load_merged
    from della_bench.results.leaderboard import build_table
    from della_bench.results.page import write_page
    from della_bench.scoring.code.score import score_code
    from della_bench.spec import MergeSpec
    from della_bench.spec.methods import METHODS

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "CheckpointError",
    "DataError",
    "DellaBenchError",
    "DellaMergedLM",
    "JudgeError",
    "JudgeSettings",
    "Merge",
    "MergeError",
    "MergeSpec",
    "SandboxError",
    "SpecError",
    "UsageError",
    "build_table",
    "estimate_gsm8k",
    "evaluate",
    "judge_alpaca_eval",
    "judge_gsm8k",
    "load_merged",
    "score_code",
    "write_folder",
    "write_page",
]

# The module that each public name is defined in. A test holds this table to `__all__` and to the imports above.
_HOMES = {
    **dict.fromkeys(
        (
            "CheckpointError",
            "DataError",
            "DellaBenchError",
            "JudgeError",
            "MergeError",
            "SandboxError",
            "SpecError",
            "UsageError",
        ),
        "della_bench.errors",
    ),
    "METHODS": "della_bench.spec.methods",
    "DellaMergedLM": "della_bench.models.hf",
    "JudgeSettings": "della_bench.judging.settings",
    "Merge": "della_bench.merge.stream",
    "MergeSpec": "della_bench.spec",
    "build_table": "della_bench.results.leaderboard",
    "estimate_gsm8k": "della_bench.judging.gsm8k.estimate",
    "evaluate": "della_bench.models.evaluating",
    "judge_alpaca_eval": "della_bench.judging.alpaca.judge",
    "judge_gsm8k": "della_bench.judging.gsm8k.judge",
    "load_merged": "della_bench.models.loading",
    "score_code": "della_bench.scoring.code.score",
    "write_folder": "della_bench.merge.folder",
    "write_page": "della_bench.results.page",
}


def __getattr__(name: str) -> object:
    """Import a public name where it is first asked for (PEP 562)."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
