"""How far a merge or an evaluation is: a bar on the terminal, or told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

__all__ = ["Watch", "count_answers", "watched_bars", "with_bar"]

Watch = Callable[[str, int, int], None]  # (what is under way, how much of it is done, of how much)

_WATCH: ContextVar[Watch | None] = ContextVar("della_bench_watch", default=None)


@contextmanager
def watched_bars(watch: Watch | None) -> Iterator[None]:
    """Tell `watch` instead of showing bars of tensors, where there is one."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def with_bar(names: Sequence[str], what: str, *, progress: bool = True) -> Iterable[str]:
    """Return the names of tensors to merge, with a bar that moves as they are taken; none without `progress`."""
    watch = _WATCH.get()
    if watch is not None and progress:
        return _told(names, what, watch)
    quiet = {} if progress else {"disable": True}  # where it is not given, TQDM_DISABLE decides
    bar: Iterable[str] = tqdm(names, desc=what, unit="tensor", **quiet)
    return bar


def _told(names: Sequence[str], what: str, watch: Watch) -> Iterator[str]:
    for number, name in enumerate(names):
        watch(what, number, len(names))
        yield name
    watch(what, len(names), len(names))


def count_answers(model: Any, watch: Watch) -> None:
    """Tell `watch` of every answer that a model of lm-eval gives, from now on.

    lm-eval hands every answer to the model's cache hook as it comes, whether there is a cache or not.
    """
    from lm_eval.api.model import CacheHook

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(requests: Sequence[Any], *args: Any, **options: Any) -> Any:
            done = 0

            class Counting(CacheHook):  # type: ignore[misc]
                def add_partial(self, attr: str, req: Any, res: Any) -> None:
                    nonlocal done
                    done += 1
                    watch("answering", done, max(done, len(requests)))
                    hook.add_partial(attr, req, res)

            hook = model.cache_hook
            model.cache_hook = Counting(None)
            watch("answering", 0, len(requests))
            try:
                return method(requests, *args, **options)
            finally:
                model.cache_hook = hook

        return ask

    for name in ("generate_until", "loglikelihood", "loglikelihood_rolling"):
        setattr(model, name, counted(getattr(model, name)))
