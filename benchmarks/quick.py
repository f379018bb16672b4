"""The main ratios in about two minutes, to compare a change with what was before it, on one machine.

    make bench-quick

Runs the other benchmarks at a small size, one after the other: merging against mergekit, remerging against writing a
merge and loading it, programs in the sandbox against a bare interpreter for each, and the page of 500 rows. Seconds are
of the wall clock; on a busy machine they mean little, the ratios somewhat more. What cannot be measured here (no
mergekit, no MBPP, no Chromium) is said to be so. Nothing here passes or fails.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def measured(script: str, *arguments: str) -> Any:
    """Return what another benchmark prints as JSON. Raises RuntimeError with its last line where it fails."""
    command = [sys.executable, str(HERE / script), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return json.loads(done.stdout[done.stdout.index("{") :])


def merging() -> str:
    """Return how merging compares with mergekit."""
    mergekit = Path(sys.executable).with_name("mergekit-yaml")
    found = measured("merge.py", "--layers", "4", "--methods", "della,task_arithmetic", "--mergekit", str(mergekit))
    rows = [
        f"{row['method']} {row['seconds']:.1f} s, {row['ratio']:.1f} x mergekit's speed, "
        f"{100 * row['share_of_copy']:.0f} % of the copy"
        for row in found["rows"]
    ]
    return f"{found['parameters'] / 1e6:.0f} M parameters: " + "; ".join(rows)


def remerging() -> str:
    """Return how a remerge compares with a merge that is written and loaded, on transformers."""
    found = measured(
        "remerge.py", "--engine", "hf", "--size", "374M", "--layers", "4", "--specs", "4", "--resident", "cpu"
    )
    again = statistics.median(found["remerge"]["remerge"])
    written = found["checkpoint"]["write"] + found["checkpoint"]["fresh"]
    return f"in place {again:.2f} s; written and loaded {written:.2f} s, {written / again:.1f} x"


def sandbox() -> str:
    """Return how programs in the sandbox compare with a bare interpreter for each."""
    (name, rows), *_ = measured("sandbox.py", "--share", "0.2", "--loads", "solutions")["rows"].items()
    ours, bare = (
        next(row["seconds"] for what, row in rows.items() if what.startswith(who)) for who in ("sandbox", "bare")
    )
    return f"{name}: {ours:.2f} s; a bare interpreter each {bare:.2f} s, {bare / ours:.1f} x"


def page() -> str:
    """Return how long the page of 500 rows takes."""
    found = measured("page.py", "--rows", "500", "--items", "400", "--runs", "1")
    return (
        f"read {found['read_seconds']:.1f} s, written {found['write_seconds']:.1f} s, {found['megabytes']:.0f} MB, "
        f"opened {found['open_seconds']:.2f} s, sorted {found['sort_seconds']:.2f} s"
    )


def main() -> None:
    """Measure and print, a line each."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parts: dict[str, Callable[[], str]] = {
        "merging": merging,
        "remerging": remerging,
        "sandbox": sandbox,
        "page of 500 rows": page,
    }
    for name, part in parts.items():
        try:
            line = part()
        except RuntimeError as error:
            line = f"not measured: {error}"
        print(f"{name:18}{line}", flush=True)


if __name__ == "__main__":
    main()
