"""What vLLM's processes do together: two workers, a server, a command line. Each test starts an engine of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from della_bench import zoo
from tests.waiting import HANGS, until

pytestmark = [pytest.mark.vllm, pytest.mark.exhaustive]

SPEC = "base=zoo:base,experts=zoo:math+zoo:code,drop_rate=0.3,window_size=0.14,dtype=float32"


@pytest.fixture
def environment(monkeypatch) -> dict[str, str]:
    return os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0|1" if (os.cpu_count() or 1) > 1 else "0|0",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # the tests send functions to the workers
    }


def members(session: int) -> list[int]:
    """Return the processes of a session, as Linux knows them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:  # it has ended meanwhile
            continue
        if fields and int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def wait_until_nothing_is_left(session: int) -> None:
    """Return when the last process of a session has ended."""
    until(lambda: not members(session))


@pytest.fixture
def start() -> Iterator:
    """Start a command as a session of its own, of which nothing is left after the test."""
    started: list[subprocess.Popen[str]] = []

    def run(command: list[str], log: Path, **options) -> subprocess.Popen[str]:
        with log.open("w") as output:
            started.append(
                subprocess.Popen(command, stdout=output, stderr=output, text=True, start_new_session=True, **options)
            )
        return started[-1]

    yield run
    for process in started:
        for pid in members(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for orphans in /proc")
def test_two_workers_share_a_merge_to_the_bit_and_end_when_one_is_killed(environment, start, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(zoo.folder("code"), broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.inf
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    out, log = tmp_path / "seen.json", tmp_path / "log"
    command = [sys.executable, "-m", "tests.models.two_workers", str(out), str(broken)]
    process = start(command, log, env=environment | {"TQDM_DISABLE": "1"})
    code = process.wait(timeout=HANGS)
    assert out.is_file(), log.read_text()[-6000:]
    seen = json.loads(out.read_text())
    for merge in seen["merges"]:
        assert (merge["weights"], merge["answers"]) == ([True, True], True)
    assert len({str(merge["some"]) for merge in seen["merges"]}) == 3
    assert "up_proj.weight holds NaN or infinity" in seen["failure"]
    assert code == 1
    assert "vLLM's workers could not merge" in log.read_text()
    wait_until_nothing_is_left(process.pid)


def test_the_servers_answers_are_the_merges_and_it_listens_on_this_machine_alone(environment, start, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "della_bench.cli", "serve", SPEC + ",name=mine", "--port", str(port)]
    command += ["--enforce-eager", "--max-model-len", "512", "--gpu-memory-utilization", "0.2"]
    process = start(command, log := tmp_path / "log", env=environment)
    question = {"model": "mine", "prompt": "Tom has 3 apples and buys 4 more.", "max_tokens": 16, "temperature": 0}
    url = f"http://127.0.0.1:{port}/v1/completions"
    request = urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})

    def listens() -> bool:
        assert process.poll() is None, log.read_text()[-6000:]
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    until(listens)
    with urllib.request.urlopen(request, timeout=HANGS) as reply:
        answer = json.load(reply)["choices"][0]["text"]
    listening = {line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if line.split()[3] == "0A"}
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
    from della_bench.models.hf import DellaMergedLM
    from tests.models.lm import ask

    assert answer == ask(DellaMergedLM.create_from_arg_string(SPEC), str(question["prompt"]), tokens=16)[0]


def test_too_little_memory_for_the_cache_ends_with_what_to_do(environment, start, tmp_path):
    # 4096 tokens of one request take 2 x 4 layers x 128 numbers x 4 bytes each: 16 MiB, of which there are 2.
    del environment["VLLM_CPU_KVCACHE_SPACE"]  # it would win over the argument
    more = "enforce_eager=True,max_model_len=4096,gpu_memory_utilization=0.2,kv_cache_memory_bytes=2000000"
    command = [sys.executable, "-m", "lm_eval", "--model", "della_merged", "--tasks", "zoo_math", "--limit", "1"]
    command += ["--model_args", f"engine=vllm,{SPEC},{more}"]
    process = start(command, log := tmp_path / "log", env=environment)
    assert process.wait(timeout=HANGS) == 1
    last = log.read_text()[-1500:]
    assert "della_bench: error: vLLM could not start its engine" in last
    assert "lower max_model_len" in last
    wait_until_nothing_is_left(process.pid)
