from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from della_bench.errors import JudgeError
from della_bench.judging.cache import Cache, default_cache_path, request_key
from della_bench.judging.gsm8k.config import load_judge
from della_bench.judging.reply import Reply
from tests.waiting import HANGS

from . import stub

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}


def reply(key: str, words: str = "yes") -> Reply:
    return Reply(key, stub.completion(words), latency=0.5, at=1.0, price_share=0.5)


def fill(cache: Cache) -> None:
    for i in range(1000):
        cache.put(reply(str(i), "x" * 2000))


def test_an_answer_comes_back_as_it_was_and_in_another_process_too(tmp_path: Path) -> None:
    path = tmp_path / "new" / "judge.sqlite"
    with Cache(path) as cache:
        assert cache.get("k") is None
        cache.put(reply("k", "j\u2028a 🦆"))
        found = cache.get("k")
    assert found is not None
    assert (found.text, found.latency, found.price_share, found.cached) == ("j\u2028a 🦆", 0.5, 0.5, True)
    with Cache(path) as other:
        assert other.get("k") == found


def test_the_name_of_an_answer_depends_on_everything_it_depends_on_and_on_no_order() -> None:
    keys = {
        request_key("http://a/v1", REQUEST),
        request_key("http://b/v1", REQUEST),
        request_key("http://a/v1", {**REQUEST, "temperature": 1}),
        request_key("http://a/v1", {**REQUEST, "messages": []}),
        request_key("http://a/v1", REQUEST, vote=1),
        request_key("http://a/v1", REQUEST, attempt=1),
    }
    assert len(keys) == 6
    assert request_key("http://a/v1", dict(reversed(REQUEST.items()))) in keys


def test_a_killed_writer_loses_nothing_that_it_has_put(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom della_bench.judging.cache import Cache\n"
        "from della_bench.judging.reply import Reply\ncache = Cache(Path(sys.argv[1]))\n"
        "for i in range(50): cache.put(Reply(str(i), {'choices': [1]}, 0, 0))\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=HANGS, check=False)
    with Cache(path) as cache:
        assert all(cache.get(str(i)) is not None for i in range(50))


def test_two_may_write_at_once(tmp_path: Path) -> None:
    with Cache(tmp_path / "c") as one, Cache(tmp_path / "c") as other:
        one.put(reply("a"))
        other.put(reply("b"))
        assert one.get("b") is not None
        assert other.get("a") is not None


def test_a_newer_version_is_an_error_that_says_so_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    with Cache(path) as cache:
        cache.put(reply("k"))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(JudgeError, match=r"version 99.*upgrade") as caught:
        Cache(path)
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


def test_a_file_that_is_no_cache_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    path.write_text("something of the user's that is longer than a header of SQLite would be" * 30)
    with pytest.raises(JudgeError, match="not a cache"):
        Cache(path)
    assert path.read_text().startswith("something")


def test_a_full_disk_stops_and_keeps_what_it_has(tmp_path: Path) -> None:
    with Cache(tmp_path / "c") as cache:
        cache.put(reply("kept"))
        (pages,) = cache._db.execute("PRAGMA page_count").fetchone()
        cache._db.execute(f"PRAGMA max_page_count={pages + 4}")  # SQLite's own way to a full disk
        with pytest.raises(JudgeError, match=r"full.*run the same command again"):
            fill(cache)
        assert cache.get("kept") is not None


def test_the_place_is_the_users_cache_or_the_named_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path))
    assert default_cache_path() == tmp_path / "judge.sqlite"
    monkeypatch.delenv("DELLA_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_path() == Path("/x/della_bench/judge.sqlite")


def test_the_name_of_a_paid_answer_never_changes() -> None:
    """Another name would have every answer that anybody has paid for asked and paid for again."""
    url = "https://api.openai.com/v1"
    names = {"gsm8k_gpt4": ["d8b576e351b1a5f8", "929b816ff4d57923", "e07deaf6be761007"],
             "gsm8k_gpt5_mini": ["aaeba3316275c684", "a35d6b9d2ea85015", "1f106b2103086605"]}  # fmt: skip
    for judge, expected in names.items():
        asked = [load_judge(judge).request("q", "#### 1", "a {fence}", swapped=swapped) for swapped in (False, True)]
        numbers = ((0, 0), (1, 0), (0, 2))
        assert [request_key(url, asked[vote], vote, attempt)[:16] for vote, attempt in numbers] == expected
