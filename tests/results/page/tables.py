"""Tables as `build_table` makes them, small, with the samples on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from della_bench.results.leaderboard import build_table
from della_bench.results.table import Table
from tests.results.making import BASE_SPEC, plain_folder

HOSTILE = [
    "<script>document.title = 'taken'</script>",
    "</script><script>document.title = 'taken'</script>",
    "<!-- <script> -->",
    "line\u2028separator\u2029 and \u0000 NUL, \ud800 a lone surrogate, \ufeff",
    "<img src=https://example.com/x.png onerror=\"document.title = 'taken'\">",
    "{{ 7 * 7 }} {% raw %} ]]> &lt;b&gt; &amp;",
]


def answers(share: float, n: int, seed: int) -> list[float | None]:
    return [float(value) for value in np.random.default_rng(seed).random(n) < share]


def models(folder: Path, n: int = 60) -> Table:
    """Base, two merges that differ from it beyond noise, and one that is hardly different; two tasks."""
    base = answers(0.3, n, 0)
    plain_folder(folder / "base", "base", {"math": base, "code": answers(0.5, n, 1)}, spec=BASE_SPEC)
    strong = [1.0 if index % 3 else value for index, value in enumerate(base)]
    near = [1.0 - (value or 0) if index == 5 else value for index, value in enumerate(base)]
    plain_folder(folder / "strong", "strong", {"math": strong, "code": answers(0.1, n, 2)})
    plain_folder(folder / "near", "near", {"math": near, "code": answers(0.5, n, 1)})
    plain_folder(folder / "weak", "weak", {"math": answers(0.02, n, 3), "code": answers(0.55, n, 4)})
    return build_table([folder])


def hostile(folder: Path) -> Table:
    """Models whose names and texts try to be something else."""
    name = "<b>bold</b> & </script>"
    plain_folder(folder / "a", name, {"math": answers(0.5, 12, 0)}, spec=BASE_SPEC, digest="a")
    plain_folder(folder / "b", "b", {"math": answers(0.7, 12, 1)})
    for log in folder.rglob("samples_*.jsonl"):
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        for row, text in zip(rows, HOSTILE, strict=False):
            row["resps"], row["filtered_resps"] = [[text]], [text]
            row["arguments"] = {"gen_args_0": {"arg_0": f"prompt: {text}", "arg_1": {}}}
            row["target"] = text
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_table([folder])
