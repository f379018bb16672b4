from __future__ import annotations

import math

from della_bench.jsonfiles import RowLog, read_rows
from della_bench.search.answering import _plain


def test_numbers_that_json_does_not_have_are_texts_so_that_a_row_of_answers_can_be_kept(tmp_path):
    row = _plain({"loglikelihood": [math.nan, -math.inf], "exact_match": 1.0})
    with RowLog(tmp_path / "rows.jsonl") as log:
        log.append(row)
    assert [kept for _, kept in read_rows(tmp_path / "rows.jsonl")] == [
        {"loglikelihood": ["NaN", "-Infinity"], "exact_match": 1.0}
    ]
