"""What a server charges, counted by the server itself, against what a run was allowed to spend."""

from __future__ import annotations

import json
import random
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from della_bench.judging.gsm8k.estimate import estimate_gsm8k
from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.reply import OutOfBudget
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings

from . import stub
from .problems import verdict_of, write_plain

RUNS, ITEMS = 25, 24


class ChargingServer:
    """Charges every answer by its tokens, those too that get lost on their way, and answers with faults."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lock = threading.Lock()
        self.charged = Decimal(0)

    def __call__(self, request: dict[str, Any], _: int) -> Any:
        with self.lock:
            dice = self.rng.random()
            if dice < 0.1:
                return 429, stub.error("slow down", "rate_limit_exceeded"), {"Retry-After": "0.001"}
            if dice < 0.15:
                return 500, stub.error("oh")
            text = json.dumps(request, ensure_ascii=False)
            prompt = self.rng.randint(1, len(text.encode()))  # any tokenizer from the best to one token a byte
            completion = self.rng.randint(1, request["max_tokens"])
            self.charged += (Decimal(prompt) * 2 + Decimal(completion) * 8) / 1_000_000
            if dice < 0.2:
                return stub.DROP
            words = "Perhaps [[C]]." if dice < 0.3 else verdict_of(request)
        return 200, stub.completion(words, tokens=(prompt, completion))


@pytest.mark.slow
def test_no_run_of_many_is_charged_more_than_its_limit(tmp_path: Path) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", ITEMS)
    whole = estimate_gsm8k(samples, "gsm8k_gpt4").worst_cost
    assert whole is not None
    rng = random.Random(1)
    stopped, shares = 0, []
    for number in range(RUNS):
        limit = (whole * Decimal(rng.randint(1, 1200)) / 1000).quantize(Decimal("0.0001"))
        server = ChargingServer(number)
        with stub.serving(server) as serving:
            settings = JudgeSettings(
                server=Server(serving.url),
                limits=Limits(rng.choice([1, 4, 16, 64])),
                max_cost=limit,
                cache=tmp_path / f"cache{number}",
                retry_policy=RetryPolicy(tries=6, first=0.001),
            )
            try:
                judge_gsm8k(samples, tmp_path / f"out{number}", "gsm8k_gpt4", settings=settings)
            except OutOfBudget:
                stopped += 1
        assert server.charged <= limit
        shares.append(float(server.charged / limit))
    print(f"{stopped} of {RUNS} runs were stopped; charged {max(shares):.3f} of the limit at most")
    assert 5 < stopped < RUNS
    assert max(shares) > 0.5  # the limit is used, too


def test_what_is_spent_is_told_to_whoever_counts_it_over_several_judgings(tmp_path: Path) -> None:
    purse: list[Decimal] = []
    samples = write_plain(tmp_path / "plain.jsonl", 3)
    with stub.serving(lambda request, _: verdict_of(request)) as server:
        asked = JudgeSettings(server=Server(server.url), cache=tmp_path / "cache.sqlite", spent=purse.append)
        for _ in range(2):  # the second time out of the cache
            judge_gsm8k(samples, tmp_path / "out", "gsm8k_gpt4", settings=asked)
    assert sum(purse) == 3 * (100 * 2 + 10 * 8) / Decimal(1_000_000)
