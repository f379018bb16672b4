from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

# No test may wait for a network; those marked `network` unset it themselves.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Nor may one read or write what the user has there.
os.environ["DELLA_BENCH_CACHE"] = tempfile.mkdtemp(prefix="della_bench_cache_")

import pytest
import torch

if not torch.cuda.is_available():
    # Triton decides at its import whether kernels are interpreted, and a dependency of the tests imports it.
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests import tiny

atexit.register(shutil.rmtree, os.environ["DELLA_BENCH_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {
        "real_data": None if os.environ.get("DELLA_BENCH_DATA") else "DELLA_BENCH_DATA is not set",
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
        "vllm": None if find_spec("vllm") else "vLLM is not installed",
        "network": None if os.environ.get("DELLA_BENCH_NETWORK_TESTS") else "DELLA_BENCH_NETWORK_TESTS is not set",
    }
    for item in items:
        if item.get_closest_marker("vllm"):  # one process for all of them: an engine takes half a minute to start
            item.add_marker(pytest.mark.xdist_group("vllm"))
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bf16 Llama `base` and three experts `a`, `b`, `c` fine-tuned from it, as folders."""
    root = tmp_path_factory.mktemp("family")
    folders = {"base": tiny.save(tiny.llama(0, dtype=torch.bfloat16), root / "base")}
    for seed, name in enumerate("abc", start=1):
        model = tiny.perturbed(tiny.llama(0, dtype=torch.bfloat16), seed)
        folders[name] = tiny.save(model, root / name)
    return folders
