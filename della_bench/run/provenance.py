"""What a run's numbers depend on, written down beside them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import della_bench
from della_bench.packages import installed_version
from della_bench.results.schema import SCHEMA, InputDigest, Provenance
from della_bench.spec import MergeSpec

__all__ = ["PACKAGES", "git_state", "host_facts", "make_provenance", "package_versions"]

PACKAGES = ("lm_eval", "torch", "transformers", "tokenizers", "datasets", "safetensors", "numba", "numpy")


def package_versions(engine: str, *more: str) -> dict[str, str]:
    """Return the versions of Python, this package, those whose releases may change an answer, and `more`."""
    versions = {"python": platform.python_version(), "della_bench": della_bench.__version__}
    packages = (*PACKAGES, *(("vllm",) if engine == "vllm" else ()), *more)
    return {**versions, **{package: installed_version(package) for package in packages}}


@cache
def git_state() -> dict[str, Any] | None:
    """Return commit and uncommitted changes of the checkout that this package runs from; None where it is installed.

    Looked up once: code that is loaded does not change with the checkout, and git takes longer than a small merge.
    """
    folder = Path(della_bench.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    commands = {"commit": ["rev-parse", "HEAD"], "changes": ["status", "--porcelain"]}
    try:
        output = {
            name: subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for name, command in commands.items()
        }
    except (OSError, subprocess.SubprocessError) as error:
        return {"commit": None, "dirty": None, "reason": str(error)}
    return {"commit": output["commit"], "dirty": bool(output["changes"])}


def host_facts() -> dict[str, Any]:
    """Return name, system and cores of this machine."""
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }


def make_provenance(
    spec: MergeSpec,
    *,
    fingerprint: str,
    files: Sequence[Mapping[str, Any]],
    engine: str,
    host: Mapping[str, Any],
    device: str,
    dtype: str,
    arguments: Mapping[str, Any],
    seeds: Mapping[str, int | None],
    advice: Sequence[str],
    steps: Mapping[str, Any],
) -> Provenance:
    """Return the provenance of a run of `spec` that starts now, on `host`, by this process's command line."""
    inputs = [
        InputDigest(role=f["role"], name=f["name"], path=f["path"], bytes=f["bytes"], sha256=f["sha256"]) for f in files
    ]
    return Provenance(
        schema=SCHEMA,
        name=spec.display_name,
        spec=str(spec),
        digest=spec.digest,
        fingerprint=fingerprint,
        engine=engine,
        files=inputs,
        versions=package_versions(engine),
        git=git_state(),
        host=dict(host),
        device=device,
        dtype=dtype,
        seeds=dict(seeds),
        arguments=dict(arguments),
        advice=list(advice),
        command=list(sys.argv),
        started=time.time(),
        steps=dict(steps),
    )
