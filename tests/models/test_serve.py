from __future__ import annotations

import gc
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from della_bench.cli import app, serve
from della_bench.cli.serve import check_address, check_order, server_command, with_own
from della_bench.errors import SpecError, UsageError
from della_bench.merge.stream import Merge
from della_bench.models.vllm_engine.settings import Settings
from della_bench.spec import MergeSpec
from tests import tiny

pytestmark = pytest.mark.vllm

SPEC = {"base": "zoo:base", "experts": "zoo:math+zoo:code", "merge_method": "task_arithmetic"}


def command(*options: str, **keys: Any) -> list[str]:
    merge = Merge(MergeSpec.parse({**SPEC, **keys}))
    return server_command(merge, list(options), resident="disk", trust_remote_code=False)


def after(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_the_command_is_vllms_own_server_told_the_spec_its_dtype_and_its_name():
    made = command("--max-model-len", "64", name="mine")
    assert made[:4] == [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
    assert made[-2:] == ["--max-model-len", "64"]
    assert (after(made, "--dtype"), after(made, "--served-model-name")) == ("bfloat16", "mine")
    told = Settings.read(json.loads(after(made, "--model-loader-extra-config")))
    assert (told.spec, told.resident) == (MergeSpec.parse({**SPEC, "name": "mine"}), "disk")


def test_tokenizer_and_chat_template_are_those_the_spec_names(tmp_path):
    other = tiny.save(tiny.llama(), tmp_path / "other", tiny.tokenizer(chat_template="{{ messages[0].content }}!"))
    made = command(tokenizer="zoo:chat", chat_template=str(other))
    assert after(made, "--tokenizer").endswith("chat")
    assert after(made, "--chat-template") == "{{ messages[0].content }}!"


def test_a_name_that_is_given_is_not_given_twice():
    assert command("--served-model-name", "x").count("--served-model-name") == 1


@pytest.mark.parametrize("option", ["--dtype", "--load_format", "--tokenizer=x", "--chat-template"])
def test_an_option_that_the_spec_decides_is_refused(option):
    with pytest.raises(SpecError, match=f"{option.partition('=')[0].replace('_', '-')}: the spec decides it"):
        command(option, "x")


@pytest.mark.parametrize("given", [["--hf-overrides", '{"a": 1}'], ['--hf_overrides={"a": 1}']])
def test_what_a_user_overrides_stands_beside_what_the_merge_needs(given):
    made = with_own([*given, "--port", "1"], "--hf-overrides", {"a": 7, "vocab_size": 300})
    assert json.loads(after(made, "--hf-overrides")) == {"a": 1, "vocab_size": 300}
    assert made[2:] == ["--port", "1"]


def test_of_two_overrides_the_last_counts():
    made = with_own(["--hf-overrides", '{"a": 1}', "--hf-overrides={}"], "--hf-overrides", {"vocab_size": 300})
    assert made == ["--hf-overrides", '{"a": 1}', "--hf-overrides", '{"vocab_size": 300}']


def test_single_keys_that_a_user_overrides_stand_beside_those_of_the_merge():
    made = with_own(["--hf-overrides.a", "1"], "--hf-overrides", {"vocab_size": 300, "b": [2]})
    assert made == ["--hf-overrides.vocab_size", "300", "--hf-overrides.b", "[2]", "--hf-overrides.a", "1"]


@pytest.mark.parametrize("given", [["--hf-overrides"], ["--hf-overrides", "{"], ["--hf-overrides", "[1]"]])
def test_an_override_that_cannot_be_read_is_left_to_vllm(given):
    assert with_own(given, "--hf-overrides", {"vocab_size": 300}) == given


def test_a_resized_merge_tells_its_size_also_beside_a_users_overrides():
    made = command("--hf-overrides", '{"a": 1}', tokenizer="union", pad_to_multiple_of="100")
    told = json.loads(after(made, "--hf-overrides"))
    assert told["a"] == 1
    assert told["vocab_size"] % 100 == 0


def test_a_made_tokenizer_is_there_as_long_as_the_server(monkeypatch):
    seen: list[Any] = []

    def run(command):
        folder = Path(after(command, "--tokenizer"))
        seen.extend([folder, (folder / "tokenizer.json").is_file()])
        return 3

    monkeypatch.setattr(serve, "run_to_its_end", run)
    spec = "base=zoo:base,experts=zoo:math,merge_method=task_arithmetic,tokenizer=union"
    assert CliRunner().invoke(app, ["serve", spec]).exit_code == 3
    gc.collect()
    assert seen[1]
    assert not seen[0].exists()


def test_a_server_that_ends_hands_on_its_exit_status():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert serve.run_to_its_end([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def test_an_address_that_is_taken_is_told_before_an_engine_is_started():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--host 127.0.0.1 --port {port}: cannot be listened on \(Address"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)
    with pytest.raises(UsageError, match="cannot be listened on"):
        check_address("no host of this name", 8000)


def test_the_spec_comes_first_and_only_options_behind_it():
    check_order("base=a", ["--max-model-len", "64", "-O3"])
    check_order("base=a", [])
    with pytest.raises(UsageError, match="the spec comes first"):
        check_order("--max-model-len", ["64", "base=a"])
    with pytest.raises(UsageError, match="other=b: one spec is served"):
        check_order("base=a", ["other=b", "--max-model-len", "64"])
