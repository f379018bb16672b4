"""The process in which alpaca_eval runs: it makes the prompts, reads the replies and computes the win rates.

alpaca_eval reads keys and defaults from the environment at its import and sets up the root logger, so it lives in a
process of its own, and it asks no model itself: what it wants to have completed goes up to the parent, as do its
results. Both directions are one JSON object a line, over the first stdin and stdout of this process; what alpaca_eval
logs and prints goes to stderr.

    down  {"annotator", "name", "model_outputs", "reference", "out", "metric", "gamed", "attempts"}    the job
    up    {"ask": [request, ...], "attempt": 0}
    down  {"replies": [a chat completion or null, ...]}                                       one a request, in order
    up    {"leaderboard": {...}, "preferences": [1.0 to 2.0 or null, ...], "completions": [...]}
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from della_bench.judging.json_types import JsonObject, as_object, as_text

__all__ = ["Completions", "chat_request", "first_choice", "main", "strict_parser", "without_marks"]

# Arguments of alpaca_eval's own decoder that say how it asks, and nothing of what is asked.
_NOT_ASKED = ("num_procs", "batch_size", "price_per_token", "is_strip", "is_chat", "requires_chatml", "sleep_time")

_MARKS = re.compile(r"<(?=\|im_(?:start|end)\|>)|\{(?=(?:instruction|output_[12])\})")

Parser = Callable[[Any], list[float]]


class Channel:
    """The line to the parent: one JSON object a line in either direction."""

    def __init__(self, down: TextIO, up: TextIO) -> None:
        self._down, self._up = down, up

    def read(self) -> dict[str, Any]:
        """Return the parent's next object; ends this process where the parent is gone."""
        line = self._down.readline()
        if not line.endswith("\n"):
            raise SystemExit(0)  # the parent was killed or wants no more: nothing is lost, it keeps what was paid for
        message: dict[str, Any] = json.loads(line)
        return message

    def write(self, value: dict[str, Any]) -> None:
        """Send one object to the parent; ends this process where the parent is gone."""
        try:
            self._up.write(json.dumps(value, allow_nan=False) + "\n")
            self._up.flush()
        except BrokenPipeError:
            raise SystemExit(0) from None

    def ask(self, requests: Sequence[dict[str, Any]], attempt: int) -> list[dict[str, Any] | None]:
        """Return the completions of `requests`, None where there is none to be had."""
        self.write({"ask": list(requests), "attempt": attempt})
        replies: list[dict[str, Any] | None] = self.read()["replies"]
        return replies


def main() -> None:
    """Run one job that the parent sends."""
    channel = Channel(sys.stdin, os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a print in there is no message to the parent
    channel.write(_run(channel.read(), channel))


def _run(job: dict[str, Any], channel: Channel) -> dict[str, Any]:
    from alpaca_eval import annotators, evaluate

    from della_bench.judging.json_types import writable

    job = {**job, **{name: writable(job[name]) for name in ("model_outputs", "reference")}}  # as pandas can hold them

    def annotator(annotators_config: str, **arguments: Any) -> Any:
        made = annotators.PairwiseAnnotator(annotators_config=annotators_config, **arguments)
        for single in made.annotators.values():
            single.fn_completion_parser = strict_parser(single.fn_completion_parser, single.batch_size)
            single.fn_completions = Completions(
                channel.ask, single.fn_completion_parser, single.completion_key, job["attempts"]
            )
        return made

    leaderboard, annotations = evaluate(
        # What alpaca_eval would choose by itself is another annotator's baseline, metric and order.
        model_outputs=[{**row, "output": without_marks(row["output"])} for row in job["model_outputs"]],
        reference_outputs=[{**row, "output": without_marks(row["output"])} for row in job["reference"]],
        annotators_config=job["annotator"],
        name=job["name"],
        fn_metric=_metric(job["metric"], job["gamed"]),
        sort_by=job["metric"],
        precomputed_leaderboard=job.get("leaderboard"),
        is_overwrite_leaderboard=True,
        is_cache_leaderboard=False,
        output_path=job["out"],
        is_return_instead_of_print=True,
        # One chunk, matched row by row: nothing is lost with a chunk, and the rows keep their order.
        annotation_kwargs={"chunksize": None, "is_ordered": True},
        Annotator=annotator,
        # The parent's cache is the only one: this one would keep -1 for what it could not read, never ask that again,
        # and crash on its second use with pandas 3 where it holds no draw.
        caching_path=None,
        is_avoid_reannotations=False,
    )
    asked = [row["instruction"] for row in job["reference"]]
    if [row["instruction"] for row in annotations] != asked:
        raise RuntimeError("alpaca_eval returned its annotations in another order than the instructions were given in")
    return {
        "leaderboard": {key: _plain(value) for key, value in leaderboard.loc[job["name"]].to_dict().items()},
        "preferences": [_plain(row["preference"]) for row in annotations],
        "completions": [_words(row.get("preference_raw_completion")) for row in annotations],
    }


def _metric(name: str, gamed: str | None) -> Callable[[Any], dict[str, Any]]:
    """Return alpaca_eval's metric `name`, made to take annotations none of which could be read."""
    from alpaca_eval.metrics import get_length_controlled_winrate, get_winrate, glm_winrate
    from pandas import DataFrame

    def metric(annotations: Any) -> dict[str, Any]:
        frame = DataFrame(annotations)
        frame["preference"] = frame["preference"].astype(float)
        if frame["preference"].isna().all():
            return {"win_rate": math.nan, name: math.nan, "standard_error": math.nan, "n_total": 0}
        if name != "length_controlled_winrate":
            return dict(get_winrate(frame))
        glm_winrate.hf_hub_download = lambda **_: gamed
        return dict(get_length_controlled_winrate(frame, save_weights_dir=None))  # the default is in site-packages

    return metric


class Completions:
    """alpaca_eval's `fn_completions`: asks the parent, and again where a reply cannot be read as a preference.

    What the parent has no reply to (a refusal, a request that failed for good) is not asked for again.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[dict[str, Any]], int], list[dict[str, Any] | None]],
        parser: Parser,
        completion_key: str,
        attempts: int,
    ) -> None:
        self._ask, self._parser, self._key, self._attempts = ask, parser, completion_key, attempts

    def __call__(self, prompts: Sequence[str], **arguments: Any) -> dict[str, list[Any]]:
        """Return alpaca_eval's table of completions, one row a prompt; what stays unreadable is passed on as it is."""
        requests = [chat_request(prompt, **arguments) for prompt in prompts]
        choices: list[dict[str, Any]] = [{"text": ""}] * len(requests)
        wanted = list(range(len(requests)))
        for attempt in range(self._attempts):
            if not wanted:
                break
            replies = self._ask([requests[index] for index in wanted], attempt)
            answered = {index: first_choice(reply) for index, reply in zip(wanted, replies, strict=True) if reply}
            for index, choice in answered.items():
                choices[index] = choice
            wanted = [index for index, choice in answered.items() if not self._readable(choice)]
        texts = [choice["text"] for choice in choices]
        return {"completions": texts, "completions_all": choices}

    def _readable(self, choice: dict[str, Any]) -> bool:
        return all(map(math.isfinite, self._parser(choice if self._key == "completions_all" else choice["text"])))


def chat_request(
    prompt: str,
    model_name: str,
    max_tokens: int | None = 2048,
    temperature: float | None = 0.7,
    top_p: float | None = 1.0,
    **parameters: Any,
) -> dict[str, Any]:
    """Return the chat request that alpaca_eval's `openai_completions` sends for `prompt`, defaults included.

    Raises ValueError where the prompt is not in ChatML.
    """
    from alpaca_eval.utils import prompt_to_chatml

    text = prompt.strip()
    if not (text.startswith("<|im_start|>") and text.endswith("<|im_end|>")):
        raise ValueError("the prompt is not in ChatML: it must start with <|im_start|> and end with <|im_end|>")
    messages = prompt_to_chatml(text)
    known = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, **parameters}
    kept = {key: value for key, value in known.items() if value is not None and key not in _NOT_ASKED}
    return {"model": model_name, "messages": messages, **kept}


def first_choice(reply: JsonObject) -> JsonObject:
    """Return the first choice of a chat completion as alpaca_eval hands it to its parsers; empty where it has none.

    "text" is the message, or the arguments of the function that was called in its place.
    """
    choices = reply.get("choices")
    choice = as_object(choices[0]) if isinstance(choices, list) and choices else {}
    message = as_object(choice.get("message"))
    calls = message.get("tool_calls")
    call = as_object(calls[0]).get("function") if isinstance(calls, list) and calls else message.get("function_call")
    text = as_object(call).get("arguments") if call else message.get("content")
    return {**choice, "text": as_text(text), "total_tokens": as_object(reply.get("usage")).get("total_tokens", 0)}


def without_marks(text: str) -> str:
    """Return an answer in which nothing is taken for a part of alpaca_eval's template.

    alpaca_eval fills its placeholders one after the other and cuts the filled prompt at ChatML's marks, so that an
    answer that holds either would be shown in another's place, or cut the prompt short. A blank behind the first
    character makes it text.
    """
    return _MARKS.sub(r"\g<0> ", text)


def strict_parser(parser: Callable[[Any], Sequence[Any]], batch_size: int) -> Parser:
    """Return `parser` made to give `batch_size` numbers from 1 to 2 for anything, NaN where it finds no such ones.

    A tie is 0 for alpaca_eval's parsers, which its own check of the range then fails on: here it is 1.5.
    """

    def parse(completion: Any) -> list[float]:
        try:
            values = [1.5 if value == 0 else float(value) for value in parser(completion)]
        except Exception:  # a reply is any text, and the parsers raise whatever it makes them
            values = []
        if len(values) != batch_size:
            return [math.nan] * batch_size
        return [value if 1 <= value <= 2 else math.nan for value in values]

    return parse


def _plain(value: Any) -> Any:
    """Return a number as one of Python's, None for NaN; other values as they are."""
    if isinstance(value, str) or value is None:
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and not isinstance(value, float) else number


def _words(completion: Any) -> str:
    """Return what the judge said: its text, where alpaca_eval keeps the whole choice."""
    text = completion.get("text", "") if isinstance(completion, dict) else completion
    return text if isinstance(text, str) else ""


if __name__ == "__main__":
    main()
