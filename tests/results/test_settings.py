"""What was asked in different ways stands in columns of its own, is called by it, and is never compared in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from della_bench.results.leaderboard import build_table
from della_bench.results.settings import UNKNOWN, Settings, column_names, plain_name, settings_of, settings_text
from tests.results.making import BASE_SPEC, plain_folder

RIGHT, WRONG = [1.0] * 30, [0.0] * 30
TIME = "2026-01-0{}T00-00-00.000000"


def asked(shots: int = 0, **generation: Any) -> dict[str, Any]:
    return {"n-shot": {"math": shots}, "configs": {"math": {"num_fewshot": shots, "generation_kwargs": generation}}}


def test_a_model_at_0_and_at_5_shots_has_two_columns(tmp_path: Path) -> None:
    for day, (shots, values) in enumerate([(0, WRONG), (5, RIGHT)], start=1):
        plain_folder(tmp_path / "a", "a", {"math": values}, more=asked(shots), time=TIME.format(day))
    table = build_table([tmp_path])
    assert table.benchmarks == ("math (0-shot)", "math (5-shot)")
    assert [table.rows[0].cells[name].value for name in table.benchmarks] == [0.0, 100.0]
    assert any("math was asked in 2 ways" in note and "0-shot; 5-shot" in note for note in table.notes)


def test_models_asked_with_unequal_shots_are_not_compared(tmp_path: Path) -> None:
    plain_folder(tmp_path / "base", "base", {"math": WRONG}, more=asked(5), spec=BASE_SPEC)
    plain_folder(tmp_path / "a", "a", {"math": RIGHT}, more=asked(0))
    table = build_table([tmp_path])
    assert table.averaged == ()
    merged = next(row for row in table.rows if row.name == "a")
    assert list(merged.cells) == ["math (0-shot)"]
    versus = merged.cells["math (0-shot)"].versus
    assert versus is not None
    assert versus.difference is None
    assert versus.reason is not None


@pytest.mark.parametrize(
    ("first", "second", "columns"),
    [
        (asked(temperature=0.7, do_sample=True), asked(temperature=0.0), ("do_sample", "temperature=0.7")),
        (asked(max_gen_toks=64), asked(max_gen_toks=512), ("max_gen_toks=64", "max_gen_toks=512")),
        (asked(until=["\n"]), asked(until=["Q:"]), ("until=",)),
        (asked() | {"system_instruction_sha": "ab" * 32}, asked(), ("system prompt abababab", "no system prompt")),
        (asked() | {"chat_template_sha": "cd" * 32}, asked(), ("chat template", "no chat template")),
        (
            asked(2) | {"chat_template_sha": "cd" * 32, "fewshot_as_multiturn": True},
            asked(2) | {"chat_template_sha": "cd" * 32},
            ("few-shot as turns", "few-shot in one turn"),
        ),
        (asked(3), {}, ("3-shot", "n-shot not recorded")),
    ],
)
def test_every_setting_parts_columns_and_names_them(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], columns: tuple[str, ...]
) -> None:
    plain_folder(tmp_path / "a", "a", {"math": RIGHT}, more=first)
    plain_folder(tmp_path / "b", "b", {"math": WRONG}, more=second)
    table = build_table([tmp_path])
    assert len(table.benchmarks) == 2
    for part in columns:
        assert any(part in name for name in table.benchmarks)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"random_seed": 7, "numpy_seed": 7, "torch_seed": 7, "fewshot_seed": 7}, "seed 7"),
        ({"fewshot_seed": 9}, "seed 0,1234,1234,9"),
        ({"della_bench": {"run": {"asked": {"samples": {"math": [1, 2]}}}}}, 'samples={"math": [1, 2]}'),
        ({"della_bench": {"run": {"asked": {"metadata": {"length": 4096}}}}}, 'metadata={"length": 4096}'),
        ({"della_bench": {"run": {"arguments": {"enable_thinking": True}}}}, "enable_thinking=true"),
        ({"della_bench": {"run": {"arguments": {"max_length": 128, "batch_size": 4}}}}, "max_length=128"),
    ],
)
def test_what_a_run_records_of_how_it_asked_is_named(config: dict[str, Any], word: str) -> None:
    assert settings_text(settings_of({"config": config}, "math")) == word


def test_seeds_of_lm_eval_and_none_recorded_are_the_same_way() -> None:
    seeds = {"random_seed": 0, "numpy_seed": 1234, "torch_seed": 1234, "fewshot_seed": 1234}
    assert settings_of({"config": seeds}, "math") == settings_of({"config": {}}, "math") == UNKNOWN


def test_what_has_no_effect_on_an_answer_parts_nothing(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": RIGHT}, more=asked(do_sample=False, temperature=0.0, until=["a", "b"]))
    plain_folder(tmp_path / "b", "b", {"math": WRONG}, more=asked(until=["b", "a"], top_p=None))
    assert build_table([tmp_path]).benchmarks == ("math",)


def test_another_limit_is_another_column_and_never_shown_instead(tmp_path: Path) -> None:
    for day, (limit, values) in enumerate([(30, RIGHT), (5, WRONG[:5]), (None, WRONG + WRONG[:10])], start=1):
        plain_folder(tmp_path / "m", "m", {"math": values}, limit=limit, there=40, time=TIME.format(day))
    table = build_table([tmp_path])
    assert {name: (cell.n, cell.value) for name, cell in table.rows[0].cells.items()} == {
        "math (30 of 40 documents)": (30, 100.0),
        "math (5 of 40 documents)": (5, 0.0),
        "math (all documents)": (40, 0.0),
    }
    assert any("math was asked in 3 ways" in note for note in table.notes)


def test_models_with_unequal_limits_have_no_common_average(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": RIGHT}, there=30)
    plain_folder(tmp_path / "b", "b", {"math": RIGHT[:20]}, limit=20, there=30)
    table = build_table([tmp_path])
    assert table.benchmarks == ("math (20 of 30 documents)", "math (all documents)")
    assert table.averaged == ()


def limited(limit: float | None, effective: int) -> dict[str, Any]:
    return {"config": {"limit": limit}, "n-samples": {"math": {"original": 40, "effective": effective}}}


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (limited(24, 24), "24 of 40 documents"),
        (limited(0.6, 24), "24 of 40 documents"),  # the same documents
        (limited(100, 40), ""),  # a limit that left nothing out
        (limited(None, 40), ""),
        ({"config": {"limit": 24}}, "limit=24"),  # of a release that did not count
    ],
)
def test_a_limit_is_told_by_the_documents_that_it_left(more: dict[str, Any], word: str) -> None:
    assert settings_text(settings_of(more, "math")) == word


def test_the_limit_of_a_group_counts_over_its_tasks() -> None:
    counts = {"a": {"original": 100, "effective": 24}, "b": {"original": 10, "effective": 10}}
    value = {"config": {"limit": 24}, "n-samples": counts}
    assert settings_text(settings_of(value, "group", ["a", "b"])) == "34 of 110 documents"


def test_turns_count_only_within_a_chat_template(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": RIGHT}, more=asked(2) | {"fewshot_as_multiturn": True})
    plain_folder(tmp_path / "b", "b", {"math": WRONG}, more=asked(2) | {"fewshot_as_multiturn": None})
    assert build_table([tmp_path]).benchmarks == ("math",)


def test_runs_that_say_nothing_of_their_settings_stay_in_one_column(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": RIGHT})
    plain_folder(tmp_path / "b", "b", {"math": WRONG})
    assert build_table([tmp_path]).benchmarks == ("math",)


def test_other_prompts_over_the_same_documents_are_not_compared(tmp_path: Path) -> None:
    hashed = [{**asked(), "task_hashes": {"math": each}} for each in ("x", "y", "x")]
    for index, (more, prompts) in enumerate(zip(hashed, ("", " edited", ""), strict=True)):
        spec = BASE_SPEC if index == 0 else None
        plain_folder(tmp_path / f"{index}", f"m{index}", {"math": RIGHT}, more=more, prompts=prompts, spec=spec)
    table = build_table([tmp_path])
    assert {row.name: row.cells["math"].excluded for row in table.rows} == {
        "m0": None,
        "m1": "asked with other prompts",
        "m2": None,
    }
    assert "m1, math: not compared: asked with other prompts" in table.notes


def test_equal_prompts_are_compared_whatever_the_digest_of_the_whole_task_says(tmp_path: Path) -> None:
    for name, digest in (("a", "x"), ("b", "y")):
        more = {**asked(), "task_hashes": {"math": digest}}
        plain_folder(tmp_path / name, name, {"math": RIGHT}, more=more)
    assert all(row.cells["math"].excluded is None for row in build_table([tmp_path]).rows)


def test_models_with_chat_templates_of_their_own_are_compared_and_it_is_said(tmp_path: Path) -> None:
    for name, prompts in (("a", " by a"), ("b", " by b")):
        more = {**asked(), "chat_template_sha": name * 64, "task_hashes": {"math": name}}
        plain_folder(tmp_path / name, name, {"math": RIGHT}, more=more, prompts=prompts)
    table = build_table([tmp_path])
    assert table.benchmarks == ("math",)
    assert all(row.cells["math"].excluded is None for row in table.rows)
    assert any("asked through 2 chat templates" in note for note in table.notes)


def test_one_model_through_two_chat_templates_has_two_columns(tmp_path: Path) -> None:
    for day, template in enumerate("ab", start=1):
        more = {**asked(), "chat_template_sha": template * 64}
        plain_folder(tmp_path / "m", "m", {"math": RIGHT}, more=more, time=TIME.format(day))
    assert build_table([tmp_path]).benchmarks == (
        "math (chat template aaaaaaaa)",
        "math (chat template bbbbbbbb)",
    )


def test_a_model_evaluated_over_fewer_items_too_shows_most_and_says_so(tmp_path: Path) -> None:
    plain_folder(tmp_path / "m", "m", {"math": RIGHT}, time=TIME.format(1))
    plain_folder(tmp_path / "m", "m", {"math": WRONG[:5]}, time=TIME.format(2))
    table = build_table([tmp_path])
    assert table.rows[0].cells["math"].n == 30
    assert "m, math: shown over 30 items; on disk too: over 5" in table.notes


def test_benchmark_and_scorer_can_be_named_without_the_way_it_was_asked(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": RIGHT, "code": RIGHT}, more=asked(0), filters=("one", "two"))
    plain_folder(tmp_path / "b", "b", {"math": RIGHT, "code": RIGHT}, more=asked(5), filters=("one", "two"))
    table = build_table([tmp_path], benchmarks=["math"], scorers={"math": "lm_eval-two"})
    assert table.benchmarks == ("math (0-shot)", "math (5-shot)")
    assert all(cell.scorer["name"] == "lm_eval-two" for row in table.rows for cell in row.cells.values())
    assert build_table([tmp_path], benchmarks=["math (5-shot)"]).benchmarks == ("math (5-shot)",)


def test_the_same_pair_has_the_same_numbers_beside_others_that_were_asked_otherwise(tmp_path: Path) -> None:
    values = [0.25, 0.5, 1.0, 0.75, 0.0] * 6
    plain_folder(tmp_path / "base", "base", {"math": values}, more=asked(5), spec=BASE_SPEC)
    plain_folder(tmp_path / "a", "a", {"math": [*values[1:], 1.0]}, more=asked(5))
    alone = build_table([tmp_path])
    plain_folder(tmp_path / "b", "b", {"math": RIGHT}, more=asked(0))
    beside = build_table([tmp_path])
    assert _versus(alone, "math") == _versus(beside, "math (5-shot)")


def _versus(table: Any, column: str) -> Any:
    versus = next(row for row in table.rows if row.name == "a").cells[column].versus
    return versus.difference, versus.interval, versus.p


def test_the_settings_of_a_group_are_those_of_its_tasks() -> None:
    value = {"n-shot": {"a": 5, "b": 5, "c": 0}}
    assert settings_of(value, "group", ["a", "b"]).asked == (("n-shot", "5-shot"),)
    assert settings_of(value, "group", ["a", "b", "c"]).asked == (("n-shot", "0/5-shot"),)


def test_a_column_of_one_way_has_the_benchmarks_name() -> None:
    way = Settings((("n-shot", "5-shot"),))
    assert column_names("math", [("m", way), ("n", way)]) == {way: "math"}
    assert set(column_names("math", [("m", way), ("n", UNKNOWN)]).values()) == {
        "math (5-shot)",
        "math (n-shot not recorded)",
    }
    assert plain_name("math (5-shot)") == plain_name("math") == "math"
