from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
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
    with pytest.raises(JudgeError, match="no SQLite file") as caught:
        Cache(path)
    assert caught.value.exit_code == 2
    assert path.read_text().startswith("something")


@pytest.mark.parametrize("table", ["bookmarks (url)", "replies (key, text)"])
def test_another_programs_sqlite_file_is_called_so_and_not_a_byte_of_it_changes(tmp_path: Path, table: str) -> None:
    path = tmp_path / "places.sqlite"
    db = sqlite3.connect(path)
    db.execute(f"CREATE TABLE {table}")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(JudgeError, match="another program") as caught:
        Cache(path)
    assert "move" not in str(caught.value)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["places.sqlite"]


def test_a_locked_file_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from della_bench.judging import cache as module

    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    with Cache(tmp_path / "c") as cache:
        holder = sqlite3.connect(tmp_path / "c", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JudgeError, match="locked") as caught:
            cache.put(reply("k"))
        assert "move" not in str(caught.value)
        holder.execute("ROLLBACK")
        holder.close()
        cache.put(reply("k"))


def test_a_reply_whose_row_is_damaged_is_there_without_words(tmp_path: Path) -> None:
    with Cache(tmp_path / "c") as cache:
        cache.put(reply("k"))
        cache._db.execute("UPDATE replies SET body = substr(body, 1, 20)")
        found = cache.get("k")
        assert found is not None
        assert found.text == ""


@pytest.mark.parametrize("text", ["NaN", "[Infinity, -Infinity]", "9" * 5000, '"\\ud800"', '{"\\udfff": 1e999}'])
def test_an_answer_that_an_older_release_kept_can_be_read_and_written_whatever_it_holds(
    tmp_path: Path, text: str
) -> None:
    import json

    with Cache(tmp_path / "c") as cache:
        cache.put(reply("k"))
        body = '{"choices": [{"message": {"content": "[[A]]"}, "extra": ' + text + "}]}"
        cache._db.execute("UPDATE replies SET body = ?", (body,))
        found = cache.get("k")
    assert found is not None
    assert found.text == "[[A]]"
    json.dumps(found.body, allow_nan=False, ensure_ascii=False).encode("utf-8")


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


def test_two_on_one_cache_pay_for_each_answer_once(tmp_path: Path) -> None:
    """Each has a folder of its own; the second starts while all of the first one's requests are under way."""
    from .problems import verdict_of, write_plain

    samples = write_plain(tmp_path / "plain.jsonl", 20)
    both = threading.Barrier(2)

    def chat(request: dict[str, object], number: int) -> str:
        if number == 0:
            both.wait(HANGS)  # until the other one has started, too
        return verdict_of(request)

    program = (
        "import sys\nfrom pathlib import Path\nfrom della_bench.judging.gsm8k.judge import judge_gsm8k\n"
        "from della_bench.judging.limiter import Limits\nfrom della_bench.judging.server import Server\n"
        "from della_bench.judging.settings import JudgeSettings\n"
        "samples, out, cache, url = sys.argv[1:]\n"
        "terms = JudgeSettings(Server(url), limits=Limits(8), cache=Path(cache))\n"
        "print('ready', flush=True)\n"
        "score = judge_gsm8k(Path(samples), Path(out), 'gsm8k_gpt4', settings=terms)\n"
        "print(score['n'], flush=True)\n"
    )
    with stub.serving(chat) as server:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, samples, tmp_path / name, tmp_path / "cache", server.url],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in ("one", "other")
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        both.wait(HANGS)
        counts = [process.communicate(timeout=HANGS)[0].strip() for process in processes]
    assert counts == ["20", "20"]
    assert len(server.requests) == 20


def test_the_claims_of_a_process_that_died_are_anybodys(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom della_bench.judging.cache import Cache\n"
        "assert Cache(Path(sys.argv[1])).claim('k')\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], timeout=HANGS, check=False)
    with Cache(tmp_path / "c") as cache:
        assert cache.claim("k")


def test_an_answer_is_claimed_by_one_at_a_time_and_by_nobody_once_it_is_there(tmp_path: Path) -> None:
    with Cache(tmp_path / "c") as one, Cache(tmp_path / "c") as other:
        assert one.claim("k")
        assert one.claim("k")
        assert not other.claim("k")
        one.give_up("k")
        assert other.claim("k")
        other.put(reply("k"))
        assert not one.claim("k")
        assert one.claim("l")
    with Cache(tmp_path / "c") as later:
        assert later.claim("l")
