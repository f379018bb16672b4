"""What lm-eval calls a merge's output: its folder below `output_path`, and `model_name` in the results.

lm-eval makes that name from `pretrained`, `model` or `path` among the model's arguments. A merge has none of these: it
would get letters drawn at random, and these are drawn after lm-eval has set the seed, so that all merges get the same.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from della_bench.scoring.guard import running_evaluation

__all__ = ["name_output"]


def name_output() -> None:
    """Have lm-eval call the output of a model with an `output_name` by that name. Once; later calls do nothing."""
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lm_eval.utils import sanitize_model_name

    original = GeneralConfigTracker.log_experiment_args
    if getattr(original, "_names_della_bench", False):
        return

    @functools.wraps(original)
    def log_experiment_args(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        model = (running_evaluation(sys._getframe(1)) or {}).get("lm")
        name = getattr(getattr(model, "lm", model), "output_name", None)  # lm-eval's response cache wraps the model
        if name is not None:
            self.model_name, self.model_name_sanitized = name, sanitize_model_name(name)

    log_experiment_args._names_della_bench = True  # type: ignore[attr-defined]
    GeneralConfigTracker.log_experiment_args = log_experiment_args
