from __future__ import annotations

import csv

import pytest

from della_bench import demo
from della_bench.spec import MergeSpec
from della_bench.zoo import SKILLS


@pytest.mark.slow
def test_the_demo_writes_a_row_for_each_model_whose_spec_parses_back(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "LAMBDAS", (0.5, 1.0))
    monkeypatch.setattr(demo, "METHODS", {name: demo.METHODS[name] for name in ("task_arithmetic", "della")})
    monkeypatch.setenv("TQDM_DISABLE", "1")
    rows = demo.run(tmp_path / "demo", limit=4)
    assert [row.name for row in rows] == ["base", "math", "code", "chat", "task_arithmetic", "della"]
    with (tmp_path / "demo" / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    for row, line in zip(rows, written, strict=True):
        assert MergeSpec.parse(line["spec"]) == row.spec
        assert line["digest"] == row.spec.digest
        for skill, score in row.scores.items():
            assert float(line[f"zoo_{skill}"]) == 100 * score
        assert float(line["average"]) == pytest.approx(100 * row.average, abs=0.01)
    assert {row.spec.lambda_ for row in rows if row.spec.method.kind == "delta"} <= {0.5, 1.0}


def test_lambda_is_chosen_on_validation_alone(monkeypatch):
    asked = []

    def evaluator():
        def evaluate(spec, suffix, limit):
            asked.append((spec, suffix))
            # Test scores that would tempt to another choice than the validation scores do.
            score = 1 - abs(spec.lambda_ - 0.7) if suffix else spec.lambda_
            return dict.fromkeys(SKILLS, score)

        return evaluate

    monkeypatch.setattr(demo, "_evaluator", evaluator)
    from rich.progress import Progress

    rows = demo._rows(Progress(disable=True), None)
    merges = [row for row in rows if row.spec.method.kind == "delta"]
    assert [row.spec.lambda_ for row in merges] == [0.7] * len(demo.METHODS)
    for row in merges:
        tested = [spec for spec, suffix in asked if not suffix and spec.merge_method == row.spec.merge_method]
        assert tested == [row.spec]
