"""One engine for all specs of a run: the next merge goes into the running model wherever it fits."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from della_bench.errors import SpecError
from della_bench.models.bars import count_answers, watched_bars
from della_bench.run.answers import AnswerLog
from della_bench.spec import MergeSpec

__all__ = ["Engine", "forget_frames"]

log = logging.getLogger(__name__)


class Engine:
    """A model of lm-eval that takes one spec after the other."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        show_bars: bool = False,
        watch: Callable[[str, int, int], None] | None = None,
    ) -> None:
        """`name` is hf or vllm, `options` are the model type's own arguments (device, batch_size, ...).

        Without `show_bars` lm-eval shows no bar of the answers; it does not look at TQDM_DISABLE. `watch` is told what
        is under way, how much of it is done, and of how much: tensors merged, questions answered.
        """
        self._watch = watch
        self.answers = AnswerLog()
        self.name = name
        self._show_bars = show_bars
        self.options = dict(options)
        self._model: Any = None
        self._is_used = False

    def load(self, spec: MergeSpec) -> Any:
        """Return the model with the merge of `spec` in it: remerged where the running one can take it, else new."""
        with watched_bars(self._watch):
            return self._load(spec)

    def _load(self, spec: MergeSpec) -> Any:
        if self._model is not None and hasattr(self._model, "remerge"):
            try:
                self._model.remerge(spec)
            except SpecError as error:  # it does not fit: the old merge is still in place, and goes
                log.info("a new engine for %s: %s", spec.display_name, error)
            else:
                return self._model
        self.close()
        self._is_used = True
        from della_bench.models.hf import DellaMergedLM

        engine = {} if self.name == "hf" else {"engine": self.name}
        self._model = DellaMergedLM(**spec.as_keys(), **engine, **self.options)
        if not self._show_bars:
            # The last one is what a rolling likelihood asks, with a bar whatever it was told.
            for name in ("generate_until", "loglikelihood", "loglikelihood_rolling", "_loglikelihood_tokens"):
                setattr(self._model, name, _without_bar(getattr(self._model, name)))
        self.answers.attach(self._model)
        if self._watch is not None:
            count_answers(self._model, self._watch)
        return self._model

    def close(self) -> None:
        """Give the model's memory back: also that of one which failed while it was loaded."""
        self._model = None
        if not self._is_used:
            return
        import gc

        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def forget_frames(error: Exception) -> Exception:
    """Return an error that keeps its traceback as a text alone, and nothing of those of the errors it came from.

    A traceback holds the functions that an error has ended, with all that they hold: a model among others, whose
    memory would not come back as long as somebody has the error.
    """
    text = "".join(traceback.format_exception(error))
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            left += [each.__cause__, each.__context__]
    if sys.version_info >= (3, 11):
        error.add_note(text)
    return error


def _without_bar(ask: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of lm-eval's model type that shows no bar, whatever its caller says of that."""
    return lambda *args, **options: ask(*args, **{**options, "disable_tqdm": True})
