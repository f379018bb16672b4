from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from della_bench.results.compare import compare_averages, compare_cells
from della_bench.results.leaderboard import build_table
from della_bench.results.page.pairs import AVERAGE, compare_all, corrected_against, reversed_
from della_bench.results.stats import holm
from tests.results.making import plain_folder
from tests.results.page.tables import models

# p of two bootstraps with other draws: four standard errors of a share near 0.5 over 9,999 resamples, twice.
NEAR = 0.03


def test_right_and_wrong_get_the_very_p_of_one_comparison(tmp_path: Path) -> None:
    table = models(tmp_path)
    found = compare_all(table.rows, table.benchmarks, table.averaged)
    for name in table.benchmarks:
        for (i, j), pair in found[name].items():
            one = compare_cells(table.rows[i].cells[name], table.rows[j].cells[name])
            assert pair.p == pytest.approx(one.p, rel=1e-9)
            assert pair.difference == pytest.approx(one.difference, abs=1e-9)
            assert (pair.wins, pair.losses, pair.n, pair.test) == (one.wins, one.losses, one.n, one.test)
            assert pair.interval == pytest.approx(one.interval, abs=2.0)


def test_averages_and_win_rates_agree_with_one_comparison_but_for_the_draws(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    for name, shift in (("a", 0.0), ("b", 0.04), ("c", 0.2)):
        graded = [float(value) for value in np.clip(draw.random(150) * 0.8 + shift, 0, 1)]
        plain_folder(tmp_path / name, name, {"chat": graded, "math": [float(v < 0.5 + shift) for v in draw.random(90)]})
    table = build_table([tmp_path])
    found = compare_all(table.rows, table.benchmarks, table.averaged)
    for (i, j), pair in found[AVERAGE].items():
        one = compare_averages(table.rows[i].cells, table.rows[j].cells, table.averaged)
        assert pair.difference == pytest.approx(one.difference, abs=1e-9)
        assert pair.p == pytest.approx(one.p, abs=NEAR)
        assert pair.interval == pytest.approx(one.interval, abs=1.0)
    for (i, j), pair in found["chat"].items():
        one = compare_cells(table.rows[i].cells["chat"], table.rows[j].cells["chat"])
        assert pair.p == pytest.approx(one.p, abs=NEAR)
        assert pair.test == one.test == "paired bootstrap"


def test_an_item_that_either_row_lacks_counts_for_neither(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": [1.0, 1.0, None, 0.0, 1.0, 1.0]})
    plain_folder(tmp_path / "b", "b", {"math": [0.0, None, 1.0, 0.0, 0.0, 1.0]})
    table = build_table([tmp_path])
    pair = compare_all(table.rows, table.benchmarks, table.averaged)["math"][0, 1]
    one = compare_cells(table.rows[0].cells["math"], table.rows[1].cells["math"])
    assert pair.n == 4
    assert pair.difference == pytest.approx(one.difference)
    assert pair.p == pytest.approx(one.p)


def test_rows_over_other_documents_have_a_reason_and_no_number(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": [1.0, 0.0, 1.0]})
    plain_folder(tmp_path / "b", "b", {"math": [1.0, 0.0, 1.0]}, revision=" of May")
    table = build_table([tmp_path])
    found = compare_all(table.rows, table.benchmarks, ["math"])
    assert found["math"][0, 1].difference is None
    assert "another revision" in (found["math"][0, 1].reason or "")
    assert found[AVERAGE][0, 1].difference is None


def test_equal_rows_differ_by_nothing_and_have_p_one(tmp_path: Path) -> None:
    for name in "ab":
        plain_folder(tmp_path / name, name, {"chat": [0.25, 0.5, 0.75], "math": [1.0, 0.0, 1.0]})
    table = build_table([tmp_path])
    for pairs in compare_all(table.rows, table.benchmarks, table.averaged).values():
        assert (pairs[0, 1].difference, pairs[0, 1].p, pairs[0, 1].interval) == (0.0, 1.0, (0.0, 0.0))


def test_p_is_corrected_over_all_comparisons_with_one_row(tmp_path: Path) -> None:
    table = models(tmp_path)
    found = compare_all(table.rows, table.benchmarks, table.averaged)
    corrected = corrected_against(found, 2, len(table.rows))
    pairs = [found[name][min(i, 2), max(i, 2)] for name in found for i in range(4) if i != 2]
    assert sorted(corrected.values()) == sorted(holm([pair.p for pair in pairs if pair.p is not None]))
    assert len(corrected) == 9  # two benchmarks and the average, three other rows


def test_a_reversed_comparison_speaks_for_the_other_row(tmp_path: Path) -> None:
    table = models(tmp_path)
    pair = compare_all(table.rows, table.benchmarks, table.averaged)["math"][0, 1]
    back = compare_cells(table.rows[1].cells["math"], table.rows[0].cells["math"])
    assert reversed_(pair).difference == pytest.approx(back.difference)
    assert reversed_(pair).wins == back.wins
    assert reversed_(reversed_(pair)) == pair
