"""Generation arguments, checked before a model is loaded: their names as the engine has them, and what they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from della_bench.errors import SpecError
from della_bench.run.settings import EvalSettings
from della_bench.suggest import nearest

__all__ = ["check_generation"]


def _whole(least: int) -> tuple[Callable[[object], bool], str]:
    return lambda value: type(value) is int and value >= least, f"a whole number from {least} on"


def _number(is_in: Callable[[float], bool], where: str) -> tuple[Callable[[object], bool], str]:
    def is_one(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return math.isfinite(value) and is_in(value)

    return is_one, f"a number {where}"


def _is_stop(value: object) -> bool:
    return (
        value is None
        or isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(each, str) for each in value))
    )


_ANYTHING: tuple[Callable[[object], bool], str] = (lambda _: True, "")
# What the usual arguments may be, which lm-eval hands on unread and an engine refuses after it has loaded a model.
_VALUES: dict[str, tuple[Callable[[object], bool], str]] = {
    **dict.fromkeys(("max_gen_toks", "num_beams", "num_return_sequences", "n"), _whole(1)),
    **dict.fromkeys(("min_length", "min_new_tokens", "min_tokens", "no_repeat_ngram_size"), _whole(0)),
    "top_k": _whole(-1),
    "temperature": _number(lambda value: value >= 0, "from 0 on"),
    "top_p": _number(lambda value: 0 < value <= 1, "above 0, up to 1"),
    "min_p": _number(lambda value: 0 <= value <= 1, "from 0 to 1"),
    "repetition_penalty": _number(lambda value: value > 0, "above 0"),
    "do_sample": (lambda value: isinstance(value, bool), "true or false"),
    "until": (_is_stop, "a text or a list of texts"),
}


def check_generation(settings: Sequence[EvalSettings], engine: str) -> None:
    """Raise SpecError with every generation argument that neither lm-eval nor the engine has, or that it cannot be.

    Of an engine that is not installed here nobody knows the names; that it is not is told by `check_engine`.
    """
    asked = {(name, repr(value)): value for each in settings for name, value in each.gen_kwargs.items()}
    if not asked:
        return
    known, faults = _names(engine), []
    for (name, shown), value in asked.items():
        is_right, what = _VALUES.get(name, _ANYTHING)
        if known is not None and name not in known:
            faults.append(f"gen_kwargs: {name}: no generation argument{_near(name, known)}")
        elif not is_right(value):
            faults.append(f"gen_kwargs: {name}={shown}: {what}")
    if faults:
        raise SpecError(list(dict.fromkeys(faults)))


def _names(engine: str) -> set[str] | None:
    """Return the names of all generation arguments, None where nobody knows them."""
    if engine == "vllm":
        try:
            from vllm import SamplingParams
        except ImportError:
            return None
        own = set(SamplingParams.__struct_fields__)
    else:
        from transformers import GenerationConfig

        own = set(GenerationConfig().to_dict())
    return own | {"until", "max_gen_toks", "do_sample"}


def _near(name: str, known: Iterable[str]) -> str:
    hint = nearest(name, sorted(known))
    return "" if hint.startswith("; one of") else hint  # there are dozens
