"""Small AlpacaEval data and a judge of our own, which the tests of AlpacaEval share."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAIR = re.compile(r'"answer": """(.*?)"""\n.*?"answer": """(.*?)"""\n', re.DOTALL)
OUTPUTS = re.compile(r'"output": """(.*?)"""\n.*?"output": """(.*?)"""\n', re.DOTALL)


def baseline(n: int, generator: str = "text_davinci_003") -> list[dict[str, Any]]:
    """Return a baseline of `n` rows whose answers grow in length."""
    return [
        {
            "instruction": f"Say the number {index}.",
            "output": f"The number is {index}." + " Indeed." * (index % 5),
            "generator": generator,
            "dataset": "helpful_base",
        }
        for index in range(n)
    ]


def outputs(rows: Sequence[dict[str, Any]], name: str = "ours") -> list[dict[str, Any]]:
    """Return a model's answers to a baseline's instructions: every second one says "good", the others "bad"."""
    return [
        {**row, "output": f"{'good' if index % 2 == 0 else 'bad'} {index}", "generator": name}
        for index, row in enumerate(rows)
    ]


def folder(path: Path, n: int = 20) -> Path:
    """Write a data folder with the baselines of both AlpacaEvals and the published annotations."""
    path.mkdir(parents=True, exist_ok=True)
    for name, generator in (("alpaca_eval", "text_davinci_003"), ("alpaca_eval_gpt4_baseline", "gpt4_1106_preview")):
        (path / f"{name}.json").write_text(json.dumps(baseline(n, generator)), encoding="utf-8")
    (path / "df_gamed.csv").write_text(gamed(n), encoding="utf-8")
    return path


def gamed(n: int) -> str:
    """Return annotations in the form of those that AlpacaEval publishes: two models, each item's difficulty."""
    head = "model,index,preference,std_delta_len,instruction_difficulty,not_gamed_baseline"
    rows = [
        f"{model},{index},{(index * share) % 10 / 10},{delta},{math.sin(index):.6f},False"
        for model, share, delta in (("concise", 3, -0.7), ("verbose", 7, 0.9))
        for index in range(n)
    ]
    return "\n".join([head, *rows]) + "\n"


def prompt_text(request: dict[str, Any]) -> str:
    """Return all that a chat request says."""
    return "\n".join(str(message["content"]) for message in request["messages"])


def better(request: dict[str, Any], pattern: re.Pattern[str] = PAIR) -> int:
    """Return which of the two answers in a request is better: the one that starts with "good", else not "bad"."""
    found = pattern.search(prompt_text(request))
    assert found, prompt_text(request)
    first, second = found.groups()
    return 1 if first.startswith("good") or second.startswith("bad") else 2


def completion(text: str, **more: Any) -> dict[str, Any]:
    """Return a chat completion that says `text`; `more` are further keys of its choice."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message, **more}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-1",
        "choices": [choice],
        "usage": usage,
    }


def ranking(request: dict[str, Any]) -> dict[str, Any]:
    """Judge as `alpaca_eval_gpt4` asks for it."""
    rank = better(request)
    return completion(f"[{{'model': 'model_1', 'rank': {rank}}}, {{'model': 'model_2', 'rank': {3 - rank}}}]")


def weighted(request: dict[str, Any], sure: float = 0.9) -> dict[str, Any]:
    """Judge as `weighted_alpaca_eval_gpt4_turbo` asks for it: one token, with the log probabilities of both."""
    winner = "mM"[better(request, OUTPUTS) - 1]
    top = [
        {"token": winner, "bytes": None, "logprob": math.log(sure)},
        {"token": "M" if winner == "m" else "m", "bytes": None, "logprob": math.log(1 - sure)},
    ]
    return completion(winner, logprobs={"content": [{**top[0], "top_logprobs": top}], "refusal": None})


class Server:
    """An OpenAI-compatible server on a free port of this machine that answers with `judge`; a context manager.

    `judge` returns a completion, or a pair of a status and an error's body. `answered` counts the texts that were
    answered with a completion, `requests` all requests.
    """

    def __init__(self, judge: Callable[[dict[str, Any]], Any]) -> None:
        self.answered: Counter[str] = Counter()
        self.requests = 0
        self._lock = threading.Lock()
        ours = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with ours._lock:
                    ours.requests += 1
                found = judge(request)
                status, body = found if isinstance(found, tuple) else (200, found)
                if status == 200:
                    with ours._lock:
                        ours.answered[prompt_text(request)] += 1
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
