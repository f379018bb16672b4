"""One pair, one comparison: terminal, file and page say the same of it, whatever else they show."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from della_bench.cli import app
from della_bench.results.bootstrap import RESAMPLES, seed_of
from della_bench.results.compare import AVERAGE, BOOTSTRAP, BOUNDED, MCNEMAR, compare_pairs, corrected
from della_bench.results.formats import p_text, render
from della_bench.results.leaderboard import build_table
from della_bench.results.page import write_page
from della_bench.results.table import Cell, CellSource, Comparison, Row, Table
from tests.results.making import EXACT, plain_folder

TASKS = ("chat", "code", "math")


def models(folder: Path, names: str) -> None:
    """Write the models of these names: right and wrong on code and math, grades on chat, some items unscored."""
    for name in names:
        draw = np.random.default_rng(ord(name))
        answers: dict[str, list[float | None]] = {
            "chat": [round(float(value), 3) for value in draw.beta(2, 2, 90)],
            "code": [float(value < 0.4) for value in draw.random(70)],
            "math": [float(value < 0.55) for value in draw.random(110)],
        }
        for task, unscored in (("chat", 3), ("math", 2)):
            for place in draw.choice(len(answers[task]), unscored, replace=False):
                answers[task][place] = None
        plain_folder(folder / name, name, answers)


def pair(table: Table, ours: str, theirs: str, averaged: tuple[str, ...] = TASKS) -> dict[str, Comparison]:
    rows = {row.name: row.cells for row in table.rows}
    return compare_pairs([(rows[ours], rows[theirs])], TASKS, averaged)[0]


def in_terminal(folder: Path, ours: str, theirs: str) -> dict[str, list[str]]:
    """Return by benchmark the difference, its ends and p as `compare` prints them."""
    found = CliRunner().invoke(app, ["compare", str(folder / ours), str(folder / theirs)], env={"COLUMNS": "200"})
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line.strip()}
    numbers = r"([+-]\d+\.\d) \[([+-]\d+\.\d), ([+-]\d+\.\d)\]\s+\d+ : \d+\s+(\S+)"
    return {name: list(match.groups()) for name, line in lines.items() if (match := re.search(numbers, line))}


def in_csv(table: Table, ours: str) -> dict[str, list[str]]:
    line = next(line for line in csv.DictReader(io.StringIO(render(table, "csv"))) if line["name"] == ours)
    out = {}
    for name in ("average", *TASKS):
        head = f"vs {table.baseline}" if name == "average" else f"{name} vs {table.baseline}"
        ends = [f"{float(line[head + end]):+.1f}" for end in ("", " low", " high")]
        out[name] = [*ends, p_text(float(line[f"{head} p"]))]
    return out


def on_page(table: Table, ours: str, theirs: str, folder: Path) -> dict[str, list[str]]:
    write_page(table, folder / "page.html")
    text = (folder / "page.html").read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="content">(.*?)</script>', text)
    assert match is not None
    content = json.loads(match[1])
    names = [row["name"] for row in content["rows"]]
    i, j, n = names.index(ours), names.index(theirs), len(names)
    a, b = sorted((i, j))
    at = a * n - a * (a + 1) // 2 + b - a - 1
    out = {}
    for name in ("average", *TASKS):
        found: dict[str, Any] = content["paired"]["measures"][AVERAGE if name == "average" else name]
        ends = [found["difference"][at], found["low"][at], found["high"][at]]
        if i > j:
            ends = [-ends[0], -ends[2], -ends[1]]
        out[name] = [*(f"{end:+.1f}" for end in ends), p_text(found["p"][at])]
    return out


def test_terminal_file_and_page_print_the_same_digits_of_every_pair(tmp_path: Path) -> None:
    models(tmp_path / "runs", "abcd")
    for ours, theirs in (("a", "b"), ("c", "b"), ("b", "d"), ("d", "a")):
        table = build_table([tmp_path / "runs"], baseline=theirs)
        told = in_csv(table, ours)
        assert set(told) == {"average", *TASKS}
        assert in_terminal(tmp_path / "runs", ours, theirs) == told
        assert on_page(table, ours, theirs, tmp_path) == told


def test_a_pairs_numbers_do_not_depend_on_the_other_rows_or_the_baseline(tmp_path: Path) -> None:
    models(tmp_path / "few", "ab")
    models(tmp_path / "many", "abcdefgh")
    few = build_table([tmp_path / "few"], baseline="b").rows
    for baseline in "ab":
        for row in build_table([tmp_path / "many"], baseline="b").rows:
            if row.name == "a":
                one = next(each for each in few if each.name == "a")
                assert row.versus is not None
                assert one.versus is not None
                assert replace(row.versus, p_holm=None) == replace(one.versus, p_holm=None)
                assert row.average_interval == one.average_interval
        table = build_table([tmp_path / "many"], baseline=baseline)
        assert pair(table, "a", "b") == pair(build_table([tmp_path / "few"]), "a", "b")


def test_the_other_way_round_a_comparison_is_the_same_with_the_signs_turned(tmp_path: Path) -> None:
    models(tmp_path, "ab")
    table = build_table([tmp_path])
    for one, other in zip(pair(table, "a", "b").values(), pair(table, "b", "a").values(), strict=True):
        assert one.interval is not None
        assert one.difference
        assert (other.difference, other.wins, other.losses) == (-one.difference, one.losses, one.wins)
        assert other.interval == (-one.interval[1], -one.interval[0])
        assert (other.p, other.p_mid, other.n) == (one.p, one.p_mid, one.n)


def test_right_and_wrong_are_tested_by_mcnemar_and_grades_and_averages_by_the_bootstrap(tmp_path: Path) -> None:
    models(tmp_path, "ab")
    table = build_table([tmp_path])
    found = pair(table, "a", "b")
    math = found["math"]
    assert math.p == pytest.approx(binomtest(math.wins, math.wins + math.losses).pvalue, rel=1e-12)
    assert {name: each.test for name, each in found.items()} == {
        "chat": BOOTSTRAP, "code": MCNEMAR, "math": MCNEMAR, AVERAGE: BOOTSTRAP,
    }  # fmt: skip
    assert [found[name].p_mid is None for name in ("chat", "math", AVERAGE)] == [True, False, True]


def test_an_item_that_either_row_lacks_is_not_resampled(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"chat": [0.9, 1.0, None, 0.0, 0.5, 0.75]})
    plain_folder(tmp_path / "b", "b", {"chat": [0.5, None, 1.0, 0.0, 1.0, 0.25]})
    rows = {row.name: row.cells for row in build_table([tmp_path]).rows}
    found = compare_pairs([(rows["a"], rows["b"])], ["chat"], ["chat"])[0]["chat"]
    assert (found.n, found.wins, found.losses) == (4, 2, 1)
    indices = np.random.default_rng(seed_of("chat")).integers(0, 4, (RESAMPLES, 4))
    drawn = np.array([40, 0, -50, 50])[indices].sum(axis=1)  # hundredths
    assert found.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]) / 4, abs=1e-9)
    assert found.p == min(1.0, 2 * (min((drawn <= 0).sum(), (drawn >= 0).sum()) + 1) / (RESAMPLES + 1))


def test_the_average_over_one_benchmark_is_that_benchmark(tmp_path: Path) -> None:
    models(tmp_path, "ab")
    found = pair(build_table([tmp_path]), "a", "b", averaged=("math",))
    assert found[AVERAGE] == found["math"]
    assert found["math"].test == MCNEMAR


def test_rows_over_other_documents_have_a_reason_and_no_number(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": [1.0, 0.0, 1.0], "code": [1.0]})
    plain_folder(tmp_path / "b", "b", {"math": [1.0, 0.0, 1.0]}, revision=" of May")
    rows = {row.name: row.cells for row in build_table([tmp_path]).rows}
    (found,) = compare_pairs([(rows["a"], rows["b"])], ["math", "code"], ["math", "code"])
    assert "another revision" in (found["math"].reason or "")
    assert found["code"].reason == "no value in both rows"
    assert found[AVERAGE].reason == f"math: {found['math'].reason}"
    assert [each.p for each in found.values()] == [None, None, None]


def test_nothing_in_common_is_no_average(tmp_path: Path) -> None:
    models(tmp_path, "ab")
    assert pair(build_table([tmp_path]), "a", "b", averaged=())[AVERAGE].reason == (
        "the rows have no benchmark in common"
    )


def test_items_that_are_scored_in_neither_pair_are_no_comparison(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": [1.0, None]})
    plain_folder(tmp_path / "b", "b", {"math": [None, 1.0]})
    rows = {row.name: row.cells for row in build_table([tmp_path]).rows}
    (found,) = compare_pairs([(rows["a"], rows["b"])], ["math"], ["math"])
    assert found["math"].reason == found[AVERAGE].reason == "no item is scored in both rows"


def test_equal_rows_differ_by_nothing_and_have_p_one(tmp_path: Path) -> None:
    for name in "ab":
        plain_folder(tmp_path / name, name, {"chat": [0.25, 0.5, 0.75], "math": [1.0, 0.0, 1.0], "code": [1.0]})
    for found in pair(build_table([tmp_path]), "a", "b").values():
        assert (found.difference, found.p, found.interval) == (0.0, 1.0, (0.0, 0.0))


def in_memory(name: str, shares: dict[str, float], n: int = 60) -> Row:
    """Return a row whose first items are right, the given share of them."""
    cells = {
        task: Cell(
            benchmark=task,
            metric="accuracy",
            value=100 * round(share * n) / n,
            interval=None,
            n=n,
            unscored=0,
            scorer=EXACT,
            source=CellSource(folder=Path()),
            keys=tuple((index, "") for index in range(n)),
            values=np.array([float(index < round(share * n)) for index in range(n)]),
            item_set="the same",
        )
        for task, share in shares.items()
    }
    return Row(name=name, method="", spec="", fingerprint=name, cells=cells)


def test_a_difference_of_91_points_is_no_noise_among_1000_rows() -> None:
    draw = np.random.default_rng(1)
    base = in_memory("base", {"math": 0.04, "code": 0.04})
    rows = [in_memory(f"row {index}", dict.fromkeys(("math", "code"), draw.uniform(0.0, 0.1))) for index in range(999)]
    rows.append(in_memory("best", {"math": 0.95, "code": 0.95}))
    compared = compare_pairs([(row.cells, base.cells) for row in rows], ["math", "code"], ["math", "code"])
    rows = [
        replace(
            row,
            cells={name: replace(cell, versus=found[name]) for name, cell in row.cells.items()},
            versus=found[AVERAGE],
        )
        for row, found in zip(rows, compared, strict=True)
    ]
    *others, best = corrected(rows, ["math", "code"])
    assert best.versus is not None
    assert best.versus.difference == pytest.approx(91.7, abs=0.05)
    assert best.versus.test == BOUNDED
    assert best.versus.p_holm is not None
    assert best.versus.p_holm < 1e-6
    assert {row.versus.in_noise for row in others if row.versus} == {True}
