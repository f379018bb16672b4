"""How close the judge's client comes to the rate that latency and concurrency allow, and where its time goes.

    python benchmarks/judge.py [--items 1319] [--concurrency 64] [--latency 1 0.2]

A server in a process of its own answers every request after exactly the latency. The ideal time is items / concurrency
times the latency; the share is the ideal time by the measured one, over a whole `judge_gsm8k` into an empty folder with
an empty cache. What a process spends once (imports, the TLS store) is measured by a first run of one item and shown by
itself. Beside it stand loops that do nothing but await aiohttp, or openai's client on aiohttp or httpx. On a machine
that is busy with other things only the processor time means something: it bounds the rate of one process, whatever the
server does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from della_bench.judging.cache import Cache
from della_bench.judging.chat import ChatSender
from della_bench.judging.cost import prompt_bound
from della_bench.judging.gsm8k.config import Judge, load_judge
from della_bench.judging.gsm8k.judge import judge_gsm8k
from della_bench.judging.gsm8k.read import Answer, read_answers
from della_bench.judging.gsm8k.rows import judged_row
from della_bench.judging.gsm8k.store import Store
from della_bench.judging.gsm8k.votes import outcome_of, questions, read_reply
from della_bench.judging.limiter import Limits
from della_bench.judging.reply import Reply
from della_bench.judging.server import Server
from della_bench.judging.settings import JudgeSettings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

WORDS = "The response reaches the number of the reference by the same steps. " * 4 + "\n[[A]]"
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "bench",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}],
    "usage": {"prompt_tokens": 600, "completion_tokens": 60, "total_tokens": 660},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1319)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, nargs="+", default=[1.0, 0.2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = _samples(Path(folder) / "samples.jsonl", options.items)
        table = Table("latency", "who", "seconds", "ideal", "share of the ideal rate", "processor ms a request")
        one = _samples(Path(folder) / "one.jsonl", 1)
        with _server(0.0) as url:
            began = time.perf_counter()
            _judge(one, url, argparse.Namespace(items=1, concurrency=1))
            print(f"once a process: {time.perf_counter() - began:.2f} s")
        for latency in options.latency:
            with _server(latency) as url:
                _row(table, options, latency, "della-bench judge", lambda url=url: _judge(samples, url, options))
                _row(table, options, latency, "aiohttp alone", lambda url=url: _bare(samples, url, options))
                for http in ("aiohttp", "httpx"):
                    _row(
                        table,
                        options,
                        latency,
                        f"openai alone, {http}",
                        lambda url=url, http=http: _alone(samples, url, options, http),
                    )
        Console().print(table)
        _parts(samples, Path(folder))


def _row(table: Table, options: argparse.Namespace, latency: float, who: str, work: Callable[[], object]) -> None:
    ideal = options.items / options.concurrency * latency
    wall, processor = time.perf_counter(), time.process_time()
    work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    each = f"{1000 * processor / options.items:.2f}"
    table.add_row(f"{latency} s", who, f"{wall:.2f}", f"{ideal:.2f}", f"{ideal / wall:.3f}", each)


def _judge(samples: Path, url: str, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = JudgeSettings(
            server=Server(url), limits=Limits(options.concurrency), cache=Path(folder) / "cache.sqlite"
        )
        score = judge_gsm8k(samples, Path(folder), "gsm8k_gpt4", settings=settings)
        assert score["n"] == options.items


def _alone(samples: Path, url: str, options: argparse.Namespace, http: str) -> None:
    """Await openai's `chat.completions.create` and nothing else."""
    import openai

    requests = _requests(samples)

    async def run() -> None:
        client = openai.DefaultAioHttpClient() if http == "aiohttp" else openai.DefaultAsyncHttpxClient()
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=client) as api:
            left = iter(requests)

            async def worker() -> None:
                for request in left:
                    await api.chat.completions.create(**request)

            await asyncio.gather(*(worker() for _ in range(options.concurrency)))

    asyncio.run(run())


def _bare(samples: Path, url: str, options: argparse.Namespace) -> None:
    """Await aiohttp and nothing else: what a client on it can do."""
    import aiohttp

    bodies = [json.dumps(request).encode() for request in _requests(samples)]

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=options.concurrency)) as session:
            left = iter(bodies)

            async def worker() -> None:
                for body in left:
                    async with session.post(f"{url}/chat/completions", data=body) as answer:
                        await answer.read()

            await asyncio.gather(*(worker() for _ in range(options.concurrency)))

    asyncio.run(run())


def _parts(samples: Path, folder: Path) -> None:
    """Print what each part of a judgement takes by itself, in processor time."""
    judge = load_judge("gsm8k_gpt4")
    answers = read_answers(samples).answers
    asked = [each for answer in answers for each in questions(judge, answer, 1)]
    table = Table("part of a judgement", "processor ms")

    def part(name: str, work: Callable[[], object]) -> None:
        began = time.process_time()
        work()
        table.add_row(name, f"{1000 * (time.process_time() - began) / len(answers):.3f}")

    with _server(0.0) as url:
        server = Server(url)

        async def send(work: Callable[[AsyncOpenAI, ChatSender, dict[str, Any]], Awaitable[object]]) -> None:
            client = server.connect(64, 60)
            sender = ChatSender(client, 64, 60)
            left = iter(asked)

            async def worker() -> None:
                for each in left:
                    await work(client, sender, each.request)

            await asyncio.gather(*(worker() for _ in range(64)))
            await sender.close()
            await client.close()

        part("send a request, have the answer's bytes", lambda: asyncio.run(send(lambda _, it, body: it.send(body))))
        part("  the same by openai's client and types", lambda: asyncio.run(send(_through_openai)))
    replies = [Reply(str(i), COMPLETION, 0.1, 0.0) for i in range(len(answers))]
    with Cache(folder / "parts.sqlite") as cache, Store(folder / "parts", judge.name) as store:
        part("make the request, its name and its bound", lambda: [_prepare(judge, answer) for answer in answers])
        part("look it up in the cache, three times", lambda: [cache.get(str(i)) for i in range(3 * len(answers))])
        part("keep the reply", lambda: [cache.put(reply) for reply in replies])
        part("write the reply down", lambda: [store.add_judgement(reply, {"doc_id": 1}) for reply in replies])
        part(
            "read the verdict, write the item",
            lambda: [_settle(store, judge, each, reply) for each, reply in zip(asked, replies, strict=True)],
        )
    Console().print(table)


async def _through_openai(client: AsyncOpenAI, _: ChatSender, request: dict[str, Any]) -> object:
    return await client.chat.completions.create(**request)


def _prepare(judge: Judge, answer: Answer) -> None:
    from della_bench.judging.cache import request_key

    for each in questions(judge, answer, 1):
        request_key("http://x/v1", each.request)
        prompt_bound(each.request)


def _settle(store: Store, judge: Judge, asked: Any, reply: Reply) -> None:
    outcome = outcome_of([read_reply(judge, asked, reply)])
    store.add_item(judged_row(asked.answer, outcome, judge.price, "x"))


def _samples(path: Path, items: int) -> Path:
    words = "Each of them has as many as the others, which is to be counted with care. " * 6
    rows = [
        {"question": f"{i} {words}", "target": f"{words}\n#### {i}", "response": f"{words} The answer is: {i}."}
        for i in range(items)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _requests(samples: Path) -> list[dict[str, Any]]:
    judge = load_judge("gsm8k_gpt4")
    return [each.request for answer in read_answers(samples).answers for each in questions(judge, answer, 1)]


@contextmanager
def _server(latency: float) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(listening, latency), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        process.kill()
        process.join()
        listening.close()


def _serve(listening: socket.socket, latency: float) -> None:
    body = json.dumps(COMPLETION).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                await asyncio.sleep(latency)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        async with await asyncio.start_server(talk, sock=listening) as server:
            await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
