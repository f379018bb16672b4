from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from della_bench import asynchronous
from della_bench.errors import JudgeError
from della_bench.judging.cache import Cache
from della_bench.judging.client import Client
from della_bench.judging.cost import Budget, Price
from della_bench.judging.faults import Retry
from della_bench.judging.limiter import Limits
from della_bench.judging.policy import RetryPolicy
from della_bench.judging.reply import OutOfBudget, Reply, StopRun, Unanswered
from della_bench.judging.server import Server, redacted

from . import stub

QUICK = RetryPolicy(tries=5, first=0.01, longest=0.02)
PRICE = Price(Decimal(1), Decimal(2))


def request(text: str = "hello") -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 20}


def with_client(
    tmp_path: Path,
    url: str,
    work: Callable[[Client], Any],
    *,
    budget: Budget | None = None,
    limits: Limits = Limits(8),  # noqa: B008
    retry_policy: RetryPolicy = QUICK,
) -> Any:
    async def run() -> Any:
        with Cache(tmp_path / "cache") as cache:
            async with Client(Server(url), cache, budget, limits, retry_policy) as client:
                return await work(client)

    return asynchronous.run(run())


def test_an_answer_carries_words_model_and_tokens_and_is_asked_for_once(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        return [await client.ask(request()) for _ in range(3)], client.tally

    with stub.serving(lambda *_: (200, stub.completion("hi", model="m-2024"))) as server:
        replies, tally = with_client(tmp_path, server.url, work, budget=Budget(None, PRICE))
        again, _ = with_client(tmp_path, server.url, work)
    assert len(server.requests) == 1
    assert server.requests[0] == request()
    first = replies[0]
    assert (first.text, first.model, first.prompt_tokens, first.completion_tokens) == ("hi", "m-2024", 100, 10)
    assert [each.cached for each in replies] == [False, True, True]
    assert all(each.cached for each in again)
    assert (tally.requests, tally.cached, tally.cost) == (1, 2, PRICE.of(100, 10))


def test_tokens_that_a_server_counts_in_floats_count() -> None:
    body = {**stub.completion("hi"), "usage": {"prompt_tokens": 100.0, "completion_tokens": 1e300}}
    reply = Reply("key", body, latency=0.0, at=0.0)
    assert (reply.prompt_tokens, reply.completion_tokens) == (100, 10**9)


def test_the_same_request_asked_many_times_at_once_is_sent_once(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        return await asyncio.gather(*(client.ask(request()) for _ in range(20)))

    with stub.serving(lambda *_: "hi") as server:
        with_client(tmp_path, server.url, work)
    assert len(server.requests) == 1


def test_votes_and_further_attempts_are_requests_of_their_own(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        asked = [(0, 0), (1, 0), (0, 1)]
        replies = [await client.ask(request(), vote=vote, attempt=attempt) for vote, attempt in asked]
        assert client.find(request(), vote=1, attempt=0) == replies[1].__class__(**{**vars(replies[1]), "cached": True})
        assert client.find(request(), vote=1, attempt=1) is None
        return [each.text for each in replies]

    with stub.serving(lambda _, number: str(number)) as server:
        assert with_client(tmp_path, server.url, work) == ["0", "1", "2"]


@pytest.mark.parametrize(
    "fault",
    [
        (429, stub.error("slow down", "rate_limit_exceeded"), {"Retry-After": "0.01"}),
        (429, stub.error("slow down", "rate_limit_exceeded")),
        (500, stub.error("oh")),
        (503, b"not JSON"),
        (408, stub.error("late")),
        (200, b"<html>a proxy</html>"),
        (200, {"object": "something else"}),
        (200, {"choices": []}),
        pytest.param(stub.DROP, id="a broken connection"),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(tmp_path: Path, fault: Any) -> None:
    async def work(client: Client) -> Any:
        return (await client.ask(request())).text

    with stub.serving(lambda _, number: fault if number < 2 else "at last") as server:
        assert with_client(tmp_path, server.url, work) == "at last"
    assert len(server.requests) == 3


def test_patience_ends_and_the_request_is_unanswered_but_the_run_goes_on(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        await client.ask(request("fine"))
        with pytest.raises(Unanswered, match="5 tries") as caught:
            await client.ask(request("broken"))
        assert caught.value.reason == "failed"
        assert client.find(request("broken")) is None
        return (await client.ask(request("fine again"))).text

    def chat(asked: dict[str, Any], _: int) -> Any:
        return (500, stub.error("oh")) if asked["messages"][0]["content"] == "broken" else "hi"

    with stub.serving(chat) as server:
        assert with_client(tmp_path, server.url, work) == "hi"


def test_refusals_for_want_of_capacity_do_not_use_up_the_tries(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        return (await client.ask(request())).text

    busy = (429, stub.error("slow down", "rate_limit_exceeded"), {"Retry-After-Ms": "1"})
    with stub.serving(lambda _, number: busy if number < 20 else "hi") as server:
        assert with_client(tmp_path, server.url, work) == "hi"


@pytest.mark.parametrize(
    ("answer", "expected", "exit_code"),
    [
        ((429, stub.error("You exceeded", "insufficient_quota", "insufficient_quota")), "no quota left", 1),
        ((401, stub.error("Incorrect API key provided: sk-abcdefgh", "invalid_api_key")), "OPENAI_API_KEY", 2),
        ((404, stub.error("The model does not exist", "model_not_found")), "no model 'm'", 2),
        ((403, stub.error("no access to it")), "denies access", 2),
        ((400, stub.error("Unsupported", "unsupported_parameter", param="max_tokens")), "'max_tokens'", 2),
    ],
)
def test_what_cannot_succeed_stops_all_at_once_and_says_what_to_do(
    tmp_path: Path, answer: Any, expected: str, exit_code: int
) -> None:
    async def work(client: Client) -> Any:
        ended = await asyncio.gather(*(client.ask(request(str(i))) for i in range(50)), return_exceptions=True)
        assert all(isinstance(error, StopRun) for error in ended)
        return ended[0]

    with stub.serving(lambda *_: answer) as server:
        error = with_client(tmp_path, server.url, work, limits=Limits(4))
    assert expected in str(error)
    assert error.exit_code == exit_code
    assert len(server.requests) <= 8  # those under way, no more


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("input_tokens", "This model's maximum context length is 100 tokens"),
        ("max_tokens", "maximum context length is 100 tokens, and you asked for 200"),
        ("nothing.that[0].was_sent", "Unsupported"),
    ],
)
def test_a_request_that_is_too_long_is_that_ones_fault_whatever_parameter_is_blamed(
    tmp_path: Path, param: str, words: str
) -> None:
    async def work(client: Client) -> Any:
        with pytest.raises(Unanswered, match="status 400") as told:
            await client.ask(request())
        return told.value.reason

    with stub.serving(lambda *_: (400, stub.error(words, param=param))) as server:
        assert with_client(tmp_path, server.url, work) == "rejected"


@pytest.mark.parametrize("asked", [None, 0.0, 0.5, 1.0, 30.0])
def test_the_wait_is_what_the_server_asks_for_and_grows_where_that_is_nothing(
    asked: float | None,
) -> None:
    client = object.__new__(Client)
    client._retry_policy = RetryPolicy(first=2.0, longest=64.0)
    for sent in (1, 4):
        waits = [client._wait(sent, Retry("busy", wait=asked)) for _ in range(50)]
        assert min(waits) >= (asked or 0.0)
        if asked is None or asked < 1:
            assert min(waits) >= 2.0**sent / 2


def test_what_is_under_way_when_the_run_stops_is_kept(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        return await asyncio.gather(*(client.ask(request(str(i))) for i in range(4)), return_exceptions=True)

    import threading

    refused = threading.Event()

    def chat(asked: dict[str, Any], _: int) -> Any:
        if asked["messages"][0]["content"] == "0":
            refused.set()
            return 429, stub.error("out", "insufficient_quota")
        refused.wait(10)
        return "paid for"

    with stub.serving(chat) as server:
        ended = with_client(tmp_path, server.url, work, limits=Limits(4))
        assert isinstance(ended[0], StopRun)
        assert [each.text for each in ended[1:]] == ["paid for"] * 3
        again = with_client(tmp_path, server.url, lambda client: client.ask(request("3")))
    assert again.cached


@pytest.mark.parametrize(
    "answer",
    [
        (400, stub.error("content policy violation", "content_policy_violation")),
        (400, stub.error("The response was filtered due to Azure's policy", "content_filter")),
    ],
)
def test_a_policy_refusal_is_of_this_request_alone(tmp_path: Path, answer: Any) -> None:
    async def work(client: Client) -> Any:
        with pytest.raises(Unanswered) as caught:
            await client.ask(request("bad"))
        assert caught.value.reason == "refused"
        return (await client.ask(request("good"))).text

    with stub.serving(lambda asked, _: answer if asked["messages"][0]["content"] == "bad" else "hi") as server:
        assert with_client(tmp_path, server.url, work) == "hi"
    assert len(server.requests) == 2


def test_a_server_that_is_not_there_is_an_error_soon(tmp_path: Path) -> None:
    with pytest.raises(StopRun, match="cannot be reached"):
        with_client(tmp_path, "http://127.0.0.1:9/v1", lambda client: client.ask(request()))


def test_a_lost_answer_counts_as_charged_and_a_refused_connection_does_not(tmp_path: Path) -> None:
    budget = Budget(None, PRICE)

    async def work(client: Client) -> Any:
        await client.ask(request())
        return client.tally

    with stub.serving(lambda _, number: stub.DROP if number < 2 else "hi") as server:
        tally = with_client(tmp_path, server.url, work, budget=budget)
    assert tally.lost == 2 * budget.worst_case(request())
    nobody = Budget(None, PRICE)
    with pytest.raises(StopRun):
        with_client(tmp_path, "http://127.0.0.1:9/v1", work, budget=nobody)
    assert nobody.lost == 0


def test_many_failures_in_a_row_stop_the_run(tmp_path: Path) -> None:
    async def work(client: Client) -> Any:
        return await asyncio.gather(*(client.ask(request(str(i))) for i in range(100)), return_exceptions=True)

    retry_policy = RetryPolicy(tries=1)
    with stub.serving(lambda *_: (500, stub.error("always"))) as server:
        ended = with_client(tmp_path, server.url, work, retry_policy=retry_policy)
    assert isinstance(ended[-1], StopRun)
    assert "in a row" in str(ended[-1])
    assert len(server.requests) < 40


def test_the_limit_is_never_passed_whatever_is_under_way(tmp_path: Path) -> None:
    limit = Decimal("0.002")
    budget = Budget(limit, PRICE)

    async def work(client: Client) -> Any:
        return await asyncio.gather(*(client.ask(request(str(i))) for i in range(60)), return_exceptions=True)

    def chat(_: dict[str, Any], number: int) -> Any:
        return stub.DROP if number % 7 == 3 else (200, stub.completion("hi", tokens=(90, 20)))

    with stub.serving(chat) as server:
        ended = with_client(tmp_path, server.url, work, budget=budget, limits=Limits(16))
    sent_back = sum(number % 7 != 3 for number in range(len(server.requests)))
    assert budget.spent == PRICE.of(90, 20) * sent_back  # what the server would charge
    assert budget.spent + budget.lost <= limit
    assert any(isinstance(error, OutOfBudget) for error in ended)
    assert sent_back > 5


def test_no_more_than_the_concurrency_are_sent_at_once(tmp_path: Path) -> None:
    import time

    async def work(client: Client) -> Any:
        await asyncio.gather(*(client.ask(request(str(i))) for i in range(40)))

    def chat(*_: Any) -> str:
        time.sleep(0.01)
        return "hi"

    with stub.serving(chat) as server:
        with_client(tmp_path, server.url, work, limits=Limits(6))
    assert server.most_in_flight <= 6


def test_azure_is_asked_at_its_deployment_with_its_own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stub.serving(lambda *_: "hi") as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url.removesuffix("/v1"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-secret")
        monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")

        async def run() -> str:
            with Cache(tmp_path / "c") as cache:
                async with Client(Server(azure=True), cache) as client:
                    return (await client.ask({**request(), "model": "my-deployment"})).text

        assert asynchronous.run(run()) == "hi"
    assert server.paths == ["/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"]
    assert server.headers[0].get("api-key") == "azure-secret"


def test_a_missing_key_is_named_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: Client) -> Any:
        await client.ask(request())

    with pytest.raises(JudgeError, match="OPENAI_API_KEY") as caught:
        with_client(tmp_path, "https://api.openai.com/v1", work)
    assert caught.value.exit_code == 2
    with pytest.raises(JudgeError, match=r"AZURE_OPENAI_ENDPOINT, OPENAI_API_VERSION, AZURE_OPENAI_API_KEY"):
        Server(azure=True).require_key()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://", "http://user:secret@host/v1"])
def test_an_address_that_is_none_or_holds_a_password_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(JudgeError) as caught:
        Server(url)
    assert "secret" not in str(caught.value)


def test_the_key_organisation_and_project_come_from_the_standard_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-verysecret-1234")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    with stub.serving(lambda *_: "hi") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)

        async def run() -> None:
            with Cache(tmp_path / "c") as cache:
                async with Client(Server(), cache) as client:
                    await client.ask(request())

        asynchronous.run(run())
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["authorization"] == "Bearer sk-verysecret-1234"
    assert headers["openai-organization"] == "org-1"


def test_no_key_is_in_any_error_or_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "verysecret-1234-without-a-known-shape"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    caplog.set_level(logging.DEBUG)

    async def work(client: Client) -> Any:
        return await asyncio.gather(*(client.ask(request(str(i))) for i in range(6)), return_exceptions=True)

    def chat(_: dict[str, Any], number: int) -> Any:
        echo = stub.error(f"your key {secret} and Bearer {secret} and sk-other-98765 are wrong")
        return [(500, echo), (429, echo), (400, echo), (403, echo)][number % 4]

    with stub.serving(chat) as server:
        ended = with_client(tmp_path, server.url, work, retry_policy=RetryPolicy(tries=2, first=0.01))
    said = caplog.text + "".join(map(repr, ended)) + "".join(map(str, ended))
    assert ended
    assert all(isinstance(error, JudgeError) for error in ended)
    assert secret not in said
    assert "sk-other" not in said
    assert secret not in redacted(f"Authorization: Bearer {secret}")
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()
