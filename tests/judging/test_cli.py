from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from della_bench.cli import main
from della_bench.results.schema import read_score, score_path
from tests.waiting import HANGS

from . import stub
from .problems import verdict_of, write_plain, write_rows


@pytest.fixture(autouse=True)
def _own_stderr() -> Iterator[None]:
    """The command's log handler holds on to the stderr of the test in which it was made."""
    logger = logging.getLogger("della_bench")
    yield
    logger.handlers.clear()
    logger.propagate = True


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        main(["judge", "gsm8k", *map(str, arguments)])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_rule_writes_a_score_beside_the_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", 9)
    code, out, _ = run(capsys, samples, "--judge", "exact")
    assert code == 0
    assert "6 correct, 3 incorrect, 0 unscored of 9" in out
    assert read_score(score_path(tmp_path, "gsm8k", "exact"))["n"] == 9


def test_a_model_is_asked_and_its_price_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", 9)
    with stub.serving(lambda request, _: verdict_of(request)) as server:
        arguments = (samples, "--base-url", server.url, "--out", tmp_path / "out", "--max-cost", "1", "--votes", "3")
        code, out, _ = run(capsys, *arguments)
        assert code == 0
        assert "this run: 27 requests, $0.0076" in out
        assert "stub-1" in out
        _, again, _ = run(capsys, *arguments)
    assert "this run: 0 requests, $0.00" in again
    assert len(server.requests) == 27


def test_a_dry_run_prints_what_it_would_cost_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", 9)
    code, out, _ = run(capsys, samples, "--dry-run", "--limit", "4")
    assert code == 0
    assert "requests  4 (0 more are known already)" in out
    assert "gpt-4.1-2025-04-14" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "OPENAI_API_KEY"),
        (("--judge", "gsm8k_gpt"), "did you mean 'gsm8k_gpt4'"),
        (("--base-url", "nowhere"), "'nowhere' is no address"),
        (("--base-url", "http://127.0.0.1:99999/v1"), "is no address"),
        (("--base-url", "http://[::1/v1"), "is no address"),
        (("--base-url", "http://127.0.0.1:9/v1", "--model", "local", "--max-cost", "1"), "has no price"),
        (("--azure", "--base-url", "http://127.0.0.1:9/v1"), "exclude each other"),
        (("--azure",), "AZURE_OPENAI_ENDPOINT"),
    ],
)
def test_a_users_mistake_is_one_message_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    samples = write_plain(tmp_path / "plain.jsonl", 2)
    code, _, err = run(capsys, samples, *arguments)
    assert code == 2
    assert expected in err
    assert "Traceback" not in err


def test_a_file_that_is_not_there_or_of_another_task_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_rows(tmp_path / "samples_mbpp.jsonl", [{"doc_id": 0, "doc": {"text": "t"}, "resps": [["x"]]}])
    for path, expected in ((tmp_path / "none.jsonl", "cannot be read"), (other, "not a document of GSM8K")):
        code, _, err = run(capsys, path, "--judge", "exact")
        assert code == 2
        assert expected in err


def test_a_wrong_key_and_an_unknown_model_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-123456")
    samples = write_plain(tmp_path / "plain.jsonl", 2)
    answers: list[Any] = [
        (401, stub.error("Incorrect API key provided: sk-wrong-123456", "invalid_api_key")),
        (404, stub.error("The model `gpt-4.1-2025-04-14` does not exist", "model_not_found")),
    ]
    for answer, expected in zip(answers, ("check OPENAI_API_KEY", "no model 'gpt-4.1-2025-04-14'"), strict=True):
        with stub.serving(lambda *_, answer=answer: answer) as server:
            code, out, err = run(capsys, samples, "--base-url", server.url)
        assert code == 2
        assert expected in err
        assert "sk-wrong" not in out + err


def test_no_key_is_in_any_file_output_or_process_title(tmp_path: Path) -> None:
    secret = "a-secret-that-looks-like-nothing-4711"
    samples = write_plain(tmp_path / "plain.jsonl", 6)
    titles: list[bytes] = []

    def chat(request: dict[str, Any], _: int) -> str:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                titles.append(process.read_bytes())
            except OSError:
                continue  # ended meanwhile
        return verdict_of(request)

    environment = {**os.environ, "OPENAI_API_KEY": secret, "DELLA_BENCH_CACHE": str(tmp_path / "cache")}
    with stub.serving(chat) as server:
        done = subprocess.run(
            [sys.executable, "-m", "della_bench.cli", "--debug", "judge", "gsm8k", samples, "--base-url", server.url],
            env=environment, capture_output=True, timeout=HANGS, check=True,
        )  # fmt: skip
    assert f"Bearer {secret}" in [*server.headers[0].values()]  # it was used
    assert titles
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 4
    for text in [done.stdout, done.stderr, *titles, *written]:
        assert secret.encode() not in text


def test_help_is_quick_to_import() -> None:
    code = (
        "import sys, della_bench.cli; print([m for m in ('openai', 'scipy', 'torch', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "setting", "flag"),
    [
        (["--base-url", "http://127.0.0.1:9/v1", "--azure"], "azure", "--azure and --base-url exclude each other"),
        (
            ["--base-url", "http://127.0.0.1:9/v1", "--model", "x", "--max-cost", "1"],
            "max_cost",
            "--max-cost: this judge",
        ),
        ([], "base_url", "as --base-url (GSM8K can also be judged without any: --judge exact)"),
    ],
)
def test_the_command_line_shows_a_setting_in_an_error_as_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], setting: str, flag: str
) -> None:
    code, _, err = run(capsys, write_plain(tmp_path / "plain.jsonl", 2), *arguments)
    assert code == 2
    assert flag in err
    assert f"`{setting}`" not in err
