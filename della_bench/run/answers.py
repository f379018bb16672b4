"""What lm-eval's results do not say of a model's answers: how long they took, which were cut, which only thought."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["AnswerLog"]


class AnswerLog:
    """Listens to a model of lm-eval, of either engine, from `attach` on; `reset` begins to count anew.

    seconds: in which the model answered. count: generated texts; cut: those that ended at the most tokens that a task
    allows, which is `limit`. thoughtful: whether answers think first (`think_end_token`); unfinished: the prompts whose
    answers never left their thoughts.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.seconds = 0.0
        self.count = self.cut = self.limit = 0
        self.thoughtful = False
        self.unfinished: set[str] = set()
        self._ended: list[tuple[bool, bool]] = []  # of texts that lm-eval has not yet read: cut, unfinished

    def summary(self) -> dict[str, Any]:
        """Return the counts as JSON has them: of generated texts those that were cut, and those that only thought."""
        out: dict[str, Any] = {"seconds": self.seconds, "generated": self.count, "cut": self.cut, "limit": self.limit}
        return {**out, "unfinished_thoughts": len(self.unfinished)} if self.thoughtful else out

    def attach(self, model: Any) -> None:
        """Listen to a model."""
        for name in ("generate_until", "loglikelihood", "loglikelihood_rolling"):
            setattr(model, name, self._timed(model, getattr(model, name)))
        if hasattr(model, "_model_generate"):
            read = _ends_of_vllm if getattr(model, "engine", "") == "vllm" else _ends_of_hf
            model._model_generate = self._watched(model, model._model_generate, read)

    def _timed(self, model: Any, ask: Callable[..., Any]) -> Callable[..., Any]:
        from lm_eval.api.model import CacheHook

        def timed(*args: Any, **options: Any) -> Any:
            hook, note = model.cache_hook, self._note

            class Reading(CacheHook):  # type: ignore[misc]
                """lm-eval hands every text to the hook as it reads it, in the order in which they were generated."""

                def add_partial(self, attr: str, req: Any, res: Any) -> None:
                    if attr == "generate_until":
                        note(req)
                    hook.add_partial(attr, req, res)

            model.cache_hook = Reading(None)
            self._ended = []
            started = time.perf_counter()
            try:
                return ask(*args, **options)
            finally:
                self.seconds += time.perf_counter() - started
                model.cache_hook = hook

        return timed

    def _note(self, request: Any) -> None:
        if not self._ended:
            return
        cut, unfinished = self._ended.pop(0)
        self.count += 1
        self.cut += cut
        if unfinished:
            self.unfinished.add(str(request[0]))

    def _watched(
        self, model: Any, generate: Callable[..., Any], read: Callable[..., Iterator[tuple[bool, bool, int]]]
    ) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            outputs = generate(*args, **options)
            for cut, unfinished, limit in read(model, outputs, options):
                self._ended.append((cut, unfinished))
                self.limit = max(self.limit, limit)
            self.thoughtful = self.thoughtful or getattr(model, "think_end_token", None) is not None
            return outputs

        return watched


def _ends_of_hf(model: Any, outputs: Any, options: dict[str, Any]) -> Iterator[tuple[bool, bool, int]]:
    """Yield of each row of ids (n, context + generated) whether it was cut, whether it only thought, and the limit.

    Rows of a batch go on until the last of them has ended: a text with a stop sequence in it was not cut.
    """
    context, length, stop = options.get("context"), options.get("max_length"), options.get("stop")
    if context is None or length is None:  # not asked for texts
        return
    limit, token = length - context.shape[1], getattr(model, "think_end_token", None)
    for row in outputs.tolist():
        ids = row[context.shape[1] :]
        text = model.tok_decode(ids, skip_special_tokens=False)
        ended = len(ids) < limit or model.eot_token_id in ids or any(each and each in text for each in stop or ())
        yield not ended, not _thought_out(token, ids, text), limit


def _ends_of_vllm(model: Any, outputs: Sequence[Any], options: dict[str, Any]) -> Iterator[tuple[bool, bool, int]]:
    """Yield of each of vLLM's outputs whether it was cut, whether it only thought, and the limit."""
    if not options.get("generate"):
        return
    token, asked = getattr(model, "think_end_token", None), options.get("sampling_params")
    for index, output in enumerate(outputs):
        best = output.outputs[0]
        parameters = asked[index] if isinstance(asked, list) else asked
        unfinished = not _thought_out(token, list(best.token_ids), best.text)
        yield best.finish_reason == "length", unfinished, int(getattr(parameters, "max_tokens", 0) or 0)


def _thought_out(token: str | int | None, ids: Sequence[int], text: str) -> bool:
    """Return whether an answer has left its thoughts, which it has where it was not to think."""
    if token is None:
        return True
    return token in ids if isinstance(token, int) else token in text
