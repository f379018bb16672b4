"""`della-bench info`: what a bug report needs to know of this installation and machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from della_bench.packages import installed_version

__all__ = ["facts", "info"]

_EXTRAS = {"vllm": "vllm", "search": "optuna", "alpaca": "alpaca_eval", "ray": "ray", "track": "trackio"}
_TRACKERS = ("trackio", "wandb", "mlflow")


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False) -> None:
    """Print versions, devices, sandbox levels, caches and extras, to be pasted into a bug report.

    Names no key, no user and no host.
    """
    import json

    from della_bench.cli.console import say, say_data, show_warnings

    show_warnings()
    found = dict(facts())
    if as_json:
        say_data(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        return
    for title, values in found.items():
        say(title)
        width = max(map(len, values), default=0)
        for name, value in values.items():
            say(f"  {name:{width}}  {value}")


def facts() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each section's title with its facts, by name."""
    yield "versions", _versions()
    yield "machine", _machine()
    yield "devices", _devices()
    yield "sandbox", _sandbox()
    yield "caches", _caches()
    yield "extras", {name: installed_version(package) for name, package in _EXTRAS.items()}
    yield "trackers", {name: installed_version(name) for name in _TRACKERS}


def _versions() -> dict[str, str]:
    from della_bench.run.provenance import package_versions

    versions = package_versions("hf")
    return {**versions, "huggingface_hub": installed_version("huggingface_hub"), "openai": installed_version("openai")}


def _machine() -> dict[str, str]:
    import os
    import platform

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.platform(), "processor": platform.machine(), "cores": str(cores)}


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "available"
    return found


def _sandbox() -> dict[str, str]:
    """Return which level holds here, and why those above it do not."""
    from della_bench.errors import SandboxError
    from della_bench.scoring.sandbox import find_level

    try:
        level = find_level()
    except SandboxError as error:
        return {"level": "none", "why": " ".join(str(error).split())}
    return {"level": level.name, **{name: f"not here: {why}" for name, why in level.refused}}


def _caches() -> dict[str, str]:
    import os

    from della_bench.judging.cache import default_cache_path
    from della_bench.resources import CACHE_VARIABLE

    answers = default_cache_path()
    named = os.environ.get(CACHE_VARIABLE)
    found = {"judgements": f"{_size(answers)}{f' (by {CACHE_VARIABLE})' if named else ''}"}
    if answers.parent.is_dir():
        found["folder"] = _size(answers.parent)
    from huggingface_hub.constants import HF_HUB_CACHE

    found["hub"] = _size(Path(HF_HUB_CACHE))
    return found


def _size(path: Path) -> str:
    if not path.exists():
        return "none"
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]
    size = float(sum(each.stat().st_size for each in files))
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError
