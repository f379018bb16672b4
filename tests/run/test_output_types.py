"""Tasks of every output type, alone and in groups: numbers as lm-eval has them, items, margins, paired tests."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml

from della_bench.resources import folder
from della_bench.results.items import joined_items
from della_bench.results.leaderboard import build_table
from della_bench.results.page import write_page
from della_bench.results.page.unfolded import unfolded
from della_bench.run.engine import Engine
from della_bench.run.options import Options
from della_bench.run.runner import Runner
from della_bench.spec import MergeSpec
from tests.run.tasks import write_task

MATH, CODE = (
    MergeSpec.parse(f"base=zoo:base,experts=zoo:{name},merge_method=passthrough,name={name}")
    for name in ("math", "code")
)
RIGHT: dict[str, Any] = {"aggregation": "mean", "higher_is_better": True}
WRONG: dict[str, Any] = {"higher_is_better": False}
TYPES: dict[str, dict[str, Any]] = {
    "generated": {"generation_kwargs": {"until": ["\n"], "max_gen_toks": 2}},
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_choice": ["1", "2", "3", "4"],
        "doc_to_target": "{{question[0]}}",
        "metric_list": [{"metric": "acc", **RIGHT}, {"metric": "acc_norm", **RIGHT}],
    },
    "next_word": {
        "output_type": "loglikelihood",
        "doc_to_target": " {{answer}}",
        "metric_list": [{"metric": "perplexity", "aggregation": "mean", **WRONG}, {"metric": "acc", **RIGHT}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} = {{answer}}",
        "metric_list": [{"metric": name, **WRONG} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    },
}
GROUPS: dict[str, dict[str, Any]] = {
    "pooled": {"task": ["choice", "next_word"], "aggregate_metric_list": [{"metric": "acc"}]},
    "evenly": {"task": ["choice", "next_word"], "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}]},
    "plain": {"task": ["evenly", "generated"]},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two models on every task and group, the lines of the run and what was evaluated in one call."""
    root = tmp_path_factory.mktemp("types")
    for name, changes in TYPES.items():
        write_task(root / f"{name}.yaml", **changes)
    short = (root / "next_word.jsonl").read_text().splitlines(keepends=True)[:2]
    (root / "next_word.jsonl").write_text("".join(short))  # groups of tasks of unequal sizes
    for name, keys in GROUPS.items():
        (root / f"{name}_group.yaml").write_text(yaml.safe_dump({"group": name, **keys}))
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[folder("tasks"), root], include_defaults=False)
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        options = Options(root / "runs", ("rolling", "plain", "pooled"), arguments={"batch_size": 4, "device": "cpu"})
        made = Runner(options, lines.append, manager=manager)
        assert made.run([MATH, CODE]) == []
    return root / "runs", lines, made


def results(folder, task):
    values = [json.loads(path.read_text()) for path in folder.glob("code*/results_*.json")]
    return next(value["results"] for value in values if task in value["results"])


def cell(table, benchmark, name="code"):
    return next(row for row in table.rows if row.name == name).cells[benchmark]


def test_every_step_is_done_once_and_a_groups_in_one_call(runs, monkeypatch):
    out, _, made = runs
    assert len(list(out.glob("math*/results_*.json"))) == 3
    assert all(step.done for step in made.plan([MATH, CODE]))
    monkeypatch.setattr(Engine, "load", lambda *_: pytest.fail("loaded"))
    assert made.run([MATH, CODE]) == []
    torn = next(out.glob("code*/samples_choice_*"))
    kept = torn.read_text()
    torn.write_text(kept[:-5])  # of one task of the two groups
    try:
        assert [step.done for step in made.plan([CODE]) if step.what == "evaluate"].count(False) == 1
    finally:
        torn.write_text(kept)


def test_a_groups_column_is_lm_evals_own_aggregate_with_its_error_and_the_items_of_all_its_tasks(runs):
    out, lines, _ = runs
    table = build_table([out], baseline="math")
    for name in ("evenly", "pooled"):
        logged = results(out, name)[name]["acc,none"]
        assert cell(table, name).value == pytest.approx(100 * logged)
    shown = cell(table, "pooled")
    assert cell(table, "evenly").value != shown.value
    assert shown.interval is not None
    assert shown.interval[0] <= shown.value <= shown.interval[1]
    assert shown.n == 6
    tasks = [item.doc_hash.split()[0] for item in joined_items(shown)]
    assert tasks == ["choice"] * 4 + ["next_word"] * 2
    assert shown.versus is not None
    assert shown.versus.p is not None
    even = cell(table, "evenly").versus
    assert even is not None
    assert even.reason == "acc is no mean over its items"
    assert f"pooled (lm_eval) {shown.value:.1f}" in lines[-1]
    parts = build_table([out], benchmarks=["choice", "next_word"])
    assert cell(parts, "choice").value == pytest.approx(100 * results(out, "choice")["choice"]["acc,none"])


def test_the_page_unfolds_a_group_into_its_tasks(runs, tmp_path):
    out, _, _ = runs
    table = build_table([out], baseline="math")
    groups = {group.name: group for group in unfolded(table)}
    assert groups.keys() == {"evenly", "pooled"}
    pooled = groups["pooled"]
    assert [task for task, _ in pooled.tasks] == ["choice", "next_word"]
    at = pooled.models.index("code")
    for task, values in pooled.tasks:
        assert values[at] == pytest.approx(100 * results(out, task)[task]["acc,none"])
    write_page(table, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<summary>pooled: its 2 tasks</summary>" in text


def test_a_group_without_a_number_of_its_own_has_those_of_its_members(runs):
    out, lines, _ = runs
    assert "plain (" not in lines[0]
    assert "evenly (lm_eval)" in lines[0]
    assert "generated (lm_eval)" in lines[0]
    assert build_table([out]).benchmarks == ("evenly", "generated", "pooled", "rolling")


def test_a_choice_is_shown_as_the_answer_with_the_likelihoods_of_all(runs):
    out, _, _ = runs
    shown = cell(build_table([out], benchmarks=["choice"]), "choice")
    items = list(joined_items(shown))
    assert {item.answer for item in items} <= {"1", "2", "3", "4"}
    for item in items:
        likelihoods = {line.split()[1]: float(line.split()[0]) for line in item.response.splitlines()}
        assert max(likelihoods, key=likelihoods.__getitem__) == item.answer
        assert (item.answer == str(int(item.target) + 1)) == (item.verdict == "right")
        assert item.prompt.endswith("+ 1")


def test_a_rolling_likelihood_is_the_inverse_perplexity_of_each_document_and_is_compared(runs):
    out, _, _ = runs
    shown = cell(build_table([out], baseline="math"), "rolling")
    rows = [json.loads(line) for line in next(out.glob("code*/samples_rolling_*")).open()]
    values = [math.exp(row["byte_perplexity"][0] / row["byte_perplexity"][1]) for row in rows]
    assert shown.metric == "1/byte_perplexity"
    assert shown.value == pytest.approx(100 * sum(values) / len(values))
    assert shown.interval is not None
    assert shown.versus is not None
    assert shown.versus.p is not None
    assert {item.verdict for item in joined_items(shown)} == {"likelihood"}


def test_log_likelihoods_show_no_bars_of_lm_evals_own(runs, capfd):
    _, _, made = runs
    engine = Engine("hf", {"device": "cpu", "batch_size": 4})
    model = engine.load(CODE)
    for row in made._tasks.benchmarks[:1]:
        made._tasks.task(row).build_all_requests(limit=1)
        capfd.readouterr()
        model.loglikelihood_rolling(made._tasks.task(row).instances)
    engine.close()
    assert "%|" not in capfd.readouterr().err
