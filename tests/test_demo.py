from __future__ import annotations

import csv

import pytest

from della_bench import demo
from della_bench.run.specs import folder_name
from della_bench.spec import MergeSpec
from della_bench.zoo import SKILLS
from tests.results.making import plain_folder, scored


@pytest.fixture
def few_models(monkeypatch):
    monkeypatch.setattr(demo, "LAMBDAS", (0.5, 1.0))
    monkeypatch.setattr(demo, "METHODS", {name: demo.METHODS[name] for name in ("task_arithmetic", "della")})


@pytest.mark.slow
@pytest.mark.usefixtures("few_models")
def test_the_demo_leaves_a_table_with_intervals_and_tests_and_a_page_and_does_nothing_twice(tmp_path, monkeypatch):
    shown = demo.run(tmp_path, limit=4)
    folder = tmp_path / "first-4"
    names = {"base", "math", "code", "chat", "task_arithmetic", "della"}
    assert {row.name for row in shown.table.rows} == names
    assert shown.table.baseline == "task_arithmetic"
    for row in shown.table.rows:
        assert all(cell.interval is not None and cell.n == 4 for cell in row.cells.values())
        assert row.name == "task_arithmetic" or (row.versus is not None and row.versus.p is not None)
    written = list(csv.DictReader((folder / "leaderboard.csv").open(newline="", encoding="utf-8")))
    for row, line in zip(shown.table.rows, written, strict=True):
        assert MergeSpec.parse(line["spec"]) == shown.spec(row)
        assert float(line["average"]) == row.average
    assert "task_arithmetic" in (folder / "leaderboard.html").read_text(encoding="utf-8")

    monkeypatch.setattr("della_bench.run.evaluator.evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    before = (folder / "leaderboard.csv").read_bytes()
    (folder / "leaderboard.csv").unlink()
    demo.run(tmp_path, limit=4)
    assert (folder / "leaderboard.csv").read_bytes() == before


@pytest.mark.usefixtures("few_models")
def test_lambda_is_chosen_on_validation_alone(tmp_path, monkeypatch):
    evaluated = []

    def evaluate(specs, out, split, limit, progress):
        for spec in specs:
            evaluated.append((spec, split))
            # Test answers that would tempt to another choice than the validation answers do.
            good = (spec.lambda_ == 0.5) == (split == "validation")
            values = [1.0, float(good)] * 4
            tasks = {f"zoo_{skill}": values for skill in SKILLS}
            folder = out / folder_name(spec)
            plain_folder(folder, spec.display_name, tasks, spec=str(spec), digest=spec.digest)
            if split == "validation":
                scored(folder, "zoo_math", values)

    monkeypatch.setattr(demo, "_evaluate", evaluate)
    shown = demo.run(tmp_path)
    merges = [shown.spec(row) for row in shown.table.rows if shown.spec(row).method.kind == "delta"]
    assert [spec.lambda_ for spec in merges] == [0.5] * len(demo.METHODS)
    for method in demo.METHODS:
        tested = [spec for spec, split in evaluated if split == "test" and spec.merge_method == method]
        assert tested == [spec for spec in merges if spec.merge_method == method]
