from __future__ import annotations

from pathlib import Path

from della_bench.results.compare import compare_pairs
from della_bench.results.page.pairs import compare_all, corrected_against, table_correction
from della_bench.results.stats import holm
from tests.results.page.tables import models


def test_every_row_is_compared_with_every_later_one(tmp_path: Path) -> None:
    table = models(tmp_path)
    found = compare_all(table.rows, table.benchmarks, table.averaged)
    for measure, pairs in found.items():
        assert set(pairs) == {(i, j) for i in range(4) for j in range(i + 1, 4)}
        for (i, j), pair in pairs.items():
            cells = table.rows[i].cells, table.rows[j].cells
            assert pair == compare_pairs([cells], table.benchmarks, table.averaged)[0][measure]


def test_p_is_corrected_over_all_comparisons_with_one_row(tmp_path: Path) -> None:
    table = models(tmp_path)
    found = compare_all(table.rows, table.benchmarks, table.averaged)
    corrected = corrected_against(found, 2, len(table.rows), table.averaged)
    pairs = [found[name][min(i, 2), max(i, 2)] for name in found for i in range(4) if i != 2]
    assert sorted(corrected.values()) == sorted(holm([pair.p for pair in pairs if pair.p is not None]))
    assert len(corrected) == 9  # two benchmarks and the average, three other rows


def test_against_the_baseline_of_a_whole_table_the_correction_is_the_tables(tmp_path: Path) -> None:
    table = models(tmp_path)
    base = [row.name for row in table.rows].index("base")
    found = compare_all(table.rows, table.benchmarks, table.averaged)
    assert table_correction(table.rows) == corrected_against(found, base, len(table.rows), table.averaged)
