"""`della-bench judge alpaca_eval` as a user meets it."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec

import pytest

from della_bench.cli import main
from tests.judging import alpaca

pytestmark = pytest.mark.skipif(find_spec("alpaca_eval") is None, reason="alpaca_eval is not installed")


@pytest.fixture
def answers(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(alpaca.folder(tmp_path / "data", 6)))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(alpaca.outputs(alpaca.baseline(6))), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["judge", "alpaca_eval", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_what_is_printed_names_win_rate_baseline_judge_n_and_cost(answers, tmp_path, capsys):
    with alpaca.Server(alpaca.ranking) as server:
        shared = (answers, "--base-url", server.url, "--cache", tmp_path / "cache.sqlite")
        assert run(*shared, "--dry-run") == 0
        assert re.search(r"requests +6 \(0 more are known already\)", capsys.readouterr().out)
        assert server.requests == 0
        assert run(*shared, "--price", "1,2") == 0
    shown = capsys.readouterr().out
    assert "ours: win rate 50.00 % [" in shown
    assert "against text_davinci_003" in shown
    assert "by alpaca_eval_gpt4 (judge-1), alpaca_eval 0.6.6" in shown
    assert "n 6 of 6: 3 won, 3 lost, 0 draws" in shown
    assert "6 replies, 60 tokens in and 30 out, $0.0001 in all" in shown
    assert "this run: 6 requests" in shown


@pytest.mark.slow
def test_the_users_mistakes_end_with_2_and_one_message(answers, tmp_path, capsys):
    cache = ("--cache", tmp_path / "cache.sqlite")
    wrong = {
        "no key: set OPENAI_API_KEY": (answers, *cache),
        "no annotator 'gpt5'": (answers, "--annotator", "gpt5", *cache),
        "the price of m is not known here": (answers, "--model", "m", "--max-cost", "1", *cache),
        "cannot be read: No such file": (tmp_path / "absent.jsonl", *cache),
        "two amounts of dollars": (answers, "--price", "cheap", *cache),
    }
    for message, arguments in wrong.items():
        assert run(*arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "error", "message", "code"),
    [
        (401, {"message": "Incorrect API key provided", "code": "invalid_api_key"}, "does not accept the key", 2),
        (404, {"message": "no such model", "code": "model_not_found"}, "has no model 'gpt-4'", 2),
    ],
)
def test_a_wrong_key_and_a_model_that_does_not_exist_stop_the_run_at_once(
    answers, tmp_path, capsys, monkeypatch, status, error, message, code
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-secret-key")
    with alpaca.Server(lambda _: (status, {"error": error})) as server:
        assert run(answers, "--base-url", server.url, "--cache", tmp_path / "c.sqlite", "--concurrency", 1) == code
        assert server.requests == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert "sk-a-secret-key" not in shown.err + shown.out
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"sk-a-secret-key" in path.read_bytes() for path in written)
