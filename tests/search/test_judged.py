"""A search by a judge that costs money: it judges the training problems, and never spends more than it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import JudgeError, UsageError
from della_bench.jsonfiles import read_json
from della_bench.results.leaderboard import build_table
from della_bench.run.tasks import Tasks
from della_bench.search import plan as plan_module
from della_bench.search.answering import Answers, Places
from della_bench.spec import MergeSpec
from tests.judging.stub import Stub, completion, serving
from tests.search.making import answers, plan, share

SEARCH: dict[str, Any] = {
    "benchmarks": ["gsm8k"],
    "trials": 4,
    "race": {"block": 3},
    "items": {"search": 6, "select": 2, "test": 3},
    "finalists": 1,
    "experts": False,
}
PAID = {"judge": "gsm8k_gpt4", "max_cost": Decimal(1)}
TOKENS = (1000, 125)
COST = Decimal("0.003")  # of so many tokens: 2 and 8 dollars a million


def problem(task: str, place: int) -> dict[str, str]:
    split = "train" if task.endswith("train") else "test"
    return {"question": f"{split} {place}: how many?", "answer": f"{place}.\n#### {place}"}


@pytest.fixture
def judge(worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    """Yield the judge's server; the worker answers problems of a small GSM8K."""
    data = tmp_path / "data"
    data.mkdir()
    for split, count in (("train", 12), ("test", 5)):
        rows = [problem(split, place) for place in range(count)]
        (data / f"gsm8k_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DELLA_BENCH_DATA", str(data))
    monkeypatch.setattr(plan_module, "Tasks", Tasks)

    def answer(self: object, spec: MergeSpec, places: Places) -> Answers:
        worker.asked.append((spec.digest, places))
        return answers(spec, places, documents=problem)

    def verdict(request: dict[str, Any], number: int) -> Any:
        text = "\n".join(message["content"] for message in request["messages"])
        return 200, completion("[[A]]" if share(text) < 0.5 else "[[B]]", tokens=TOKENS)

    monkeypatch.setattr(worker, "answer", answer)
    with serving(verdict) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", stub.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield stub


def test_training_problems_are_judged_and_stand_in_no_column_of_the_test_problems(searched, judge, tmp_path):
    outcome = searched(search=SEARCH, options=PAID)
    texts = judge.texts()
    assert {split for split in ("train", "test") if any(f"{split} " in text for text in texts)} == {"train", "test"}
    assert len(texts) == len(set(texts))  # nothing is paid twice
    assert not list((tmp_path / "out").rglob(".scoring"))
    assert outcome.winner is not None
    assert set(outcome.winner.values["search"]["gsm8k"]) <= {0.0, 1.0}
    assert Decimal(read_json(tmp_path / "out" / "money.json")["spent"]) == COST * len(texts)
    score = read_json(outcome.winner.folder / "scores" / "gsm8k.gsm8k_gpt4.json")
    assert score["n"] == 3
    assert score["value"] == pytest.approx(100 * sum(outcome.winner.values["test"]["gsm8k"]) / 3)
    table = build_table([tmp_path / "out" / "runs"], baseline="none")
    judged = [cell for row in table.rows for name, cell in row.cells.items() if "gsm8k_gpt4" in str(cell.scorer)]
    assert {cell.n for cell in judged} == {3}


def test_by_another_judge_it_is_another_search(searched, judge):
    searched(search=SEARCH, options=PAID)
    with pytest.raises(UsageError, match=r"search.judges.gsm8k: .*gsm8k_gpt4.* there, nothing asked for"):
        searched(search=SEARCH)


def test_what_a_judge_gave_in_earlier_runs_is_taken_over_from_that_judge_alone(searched, judge, worker, tmp_path):
    first = searched("first", search={**SEARCH, "race": False}, options=PAID)
    asked, runs = len(judge.requests), [tmp_path / "first" / "runs"]
    places = {place for each in plan(tmp_path / "none", search=SEARCH).sets["search"] for place, _ in each.items}

    def is_asked_again() -> bool:
        found = [ids for _, tasks in worker.asked for task, ids in tasks.items() if task.endswith("train")]
        worker.asked.clear()
        return any(places.intersection(ids) for ids in found)

    worker.asked.clear()
    second = searched("second", search={**SEARCH, "race": False}, options=PAID, warm_start=runs)
    known = {each.spec.digest: each.values["search"] for each in first.candidates}
    assert {each.spec.digest: each.values["search"] for each in second.candidates} == known
    assert len(judge.requests) == asked
    assert not is_asked_again()
    for scorers in ({}, {"gsm8k": "exact"}):
        other = {**SEARCH, "race": False, "scorers": scorers}
        exact = searched(f"by {len(scorers)}", search=other, warm_start=runs)
        assert any(known.get(each.spec.digest) != each.values["search"] for each in exact.candidates)
        assert is_asked_again() == bool(scorers)


def test_the_money_is_never_exceeded_over_all_starts_and_more_of_it_goes_on(searched, judge, tmp_path):
    limit = Decimal("0.05")
    for _ in range(3):
        with pytest.raises(JudgeError, match="is left to spend"):
            searched(search=SEARCH, options={**PAID, "max_cost": limit})
        assert COST * len(judge.requests) <= limit
    whole = searched(search=SEARCH, options=PAID)
    texts = judge.texts()
    assert len(texts) == len(set(texts))
    asked = searched("at once", search=SEARCH, options=PAID)
    assert [each.values for each in whole.candidates] == [each.values for each in asked.candidates]


@pytest.mark.parametrize(
    ("options", "told"),
    [({"max_cost": None}, "max-cost says how much"), ({"max_cost": Decimal(0)}, "max-cost 0 lets it spend none")],
)
@pytest.mark.parametrize("scorers", [{}, {"gsm8k": "strict-match"}])
def test_a_judge_that_costs_money_is_not_asked_without_leave(judge, tmp_path, options, told, scorers):
    with pytest.raises(UsageError, match=told):
        plan(tmp_path / "out", search={**SEARCH, "scorers": scorers}, options={**PAID, **options})
    free = plan(tmp_path / "out", search={**SEARCH, "scorers": {"gsm8k": "exact"}})
    assert {number.name for number in free.numbers.values()} == {"exact"}
