"""What lm-evaluation-harness is told about us: model types, tasks, and how our errors look under its command line.

Imported only where lm-eval is in use: by the start-up hook (`_autoload`) and by our own command line, through
`register()`, where no hook has run (`python -S`). Everything here may be called any number of times.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from della_bench.errors import DellaBenchError
from della_bench.resources import folder
from della_bench.visible import visible

__all__ = ["MODEL_TYPES", "register", "register_models", "register_tasks", "render_error", "show_errors_plainly"]

# What `lm_eval --model` takes, and the class behind it, imported when it is first asked for.
MODEL_TYPES = {
    "della_merged": "della_bench.models.hf:DellaMergedLM",
    "della_merged_vllm": "della_bench.models.vllm:DellaMergedVLLM",
}


def register() -> None:
    """Make our model types and tasks known to lm-eval in this process, hook or no hook."""
    register_models()
    register_tasks()


def register_models() -> None:
    """Enter MODEL_TYPES in lm-eval's registry; a name that is taken already keeps its model."""
    # First the built-in types: lm-eval fills its registry only while it is empty, and ours alone would hide `hf`.
    import lm_eval.models  # noqa: F401
    from lm_eval.api.registry import model_registry

    for name, target in MODEL_TYPES.items():
        if name not in model_registry:
            model_registry.register(name, target=target)
    logging.getLogger("lm_eval.evaluator").addFilter(_is_about_a_model)
    show_errors_plainly()


def _is_about_a_model(record: logging.LogRecord) -> bool:
    """Return whether a remark of lm-eval's names a model: it says of a merge of chat models that `None` looks like one.

    A merge has no `pretrained`, and its tasks bring the prompts of its experts.
    """
    return not record.getMessage().lstrip().startswith("pretrained=None ")


def register_tasks() -> None:
    """Have every `TaskManager` scan our tasks, after lm-eval's own and before the user's `include_path`: the last wins.

    With `include_defaults=False` ours are left out as well.
    """
    from lm_eval.tasks.manager import TaskManager

    original = TaskManager.__init__
    if getattr(original, "_scans_della_bench", False):
        return
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        given = bound.arguments.get("include_path")
        if bound.arguments.get("include_defaults", True):
            bound.arguments["include_path"] = [folder("tasks"), *_paths(given)]
        original(*bound.args, **bound.kwargs)
        self.include_path = given

    init._scans_della_bench = True  # type: ignore[attr-defined]
    TaskManager.__init__ = init
    show_errors_plainly()


def _paths(given: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    """Return lm-eval's `include_path`, which may be nothing, one path or several, as a list."""
    if not given:
        return []
    return [given] if isinstance(given, (str, Path)) else list(given)


def render_error(error: DellaBenchError) -> str:
    """Return the one message a command line shows for `error`; several faults stand on a line each.

    What a file or a server put into it is made visible.
    """
    return "della_bench: error: " + "\n  ".join(visible(str(error)).splitlines() or [type(error).__name__])


def show_errors_plainly() -> None:
    """Under lm-eval's command line, end on one of our errors with its message and exit code instead of a traceback.

    lm-eval catches nothing, so an uncaught error reaches `sys.excepthook`; ours hands on whatever is none of our own to
    the hook that was there. `DELLA_BENCH_DEBUG=1` brings the traceback back. Where Python code calls lm-eval, nothing
    is changed: the caller gets the exception.
    """
    if not _under_lm_eval_cli() or getattr(sys.excepthook, "_shows_della_bench", False):
        return
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        ours = _ours(error)
        if ours is None or os.environ.get("DELLA_BENCH_DEBUG", "0") not in ("", "0"):
            previous(kind, error, traceback)
        else:
            print(render_error(ours), file=sys.stderr)
        if ours is not None:
            # The interpreter honours a SystemExit out of this hook, and so still flushes and runs atexit's functions.
            raise SystemExit(ours.exit_code)

    hook._shows_della_bench = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def _ours(error: BaseException | None) -> DellaBenchError | None:
    """Return `error`, or the error that it was explicitly raised from, if that is one of ours.

    The implicit `__context__` is not followed: an error that happens while ours is handled is another one, and must be
    seen.
    """
    while error is not None and not isinstance(error, DellaBenchError):
        error = error.__cause__
    return error


def _under_lm_eval_cli() -> bool:
    """Return whether this process is lm-eval's command line: `lm_eval`, `lm-eval`, `python -m lm_eval`.

    All of them (and `accelerate launch -m lm_eval`) go through lm_eval/__main__.py, which nothing else imports.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return "lm_eval.__main__" in sys.modules or getattr(spec, "name", None) == "lm_eval.__main__"
