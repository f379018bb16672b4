"""lm-eval's settings: what is taken, what is refused, and what each means for an evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from della_bench.run.settings import SETTINGS, EvalSettings, checked_settings

VALUES = {
    "num_fewshot": 0,
    "gen_kwargs": {"temperature": 0.5, "until": ["x"]},
    "apply_chat_template": "tool_use",
    "system_instruction": "Be brief.",
    "samples": {"a": (1, 2)},
    "predict_only": True,
    "metadata": {"max_seq_lengths": [4096]},
}


def settings(**values):
    clean, faults = checked_settings(values)
    assert faults == []
    return EvalSettings().changed(clean)


def test_all_faults_of_settings_are_told_at_once_each_with_what_is_allowed():
    wrong = {
        "num_fewshots": 5,
        "num_fewshot": -1,
        "limit": 2.5,
        "fewshot_as_multiturn": "yes",
        "apply_chat_template": 3,
        "system_instruction": 1,
        "gen_kwargs": ["a"],
        "samples": {"a": [0, -1]},
        "seed": [1, 2],
        "predict_only": 1,
    }
    values, faults = checked_settings(wrong, "config.yaml: ")
    assert values == {}
    assert len(faults) == len(wrong)
    assert faults[0] == "config.yaml: num_fewshots: lm-eval has no such setting; did you mean 'num_fewshot'?"
    assert faults[1] == "config.yaml: num_fewshot=-1: a whole number from 0 on"
    assert "or a share of them between 0 and 1" in faults[2]


@pytest.mark.parametrize("places", [[], [0, 0], "0", [True], [1.0]])
def test_places_of_documents_are_whole_numbers_each_once(places):
    assert len(checked_settings({"samples": {"a": places}})[1]) == 1


def test_samples_and_a_limit_exclude_each_other_and_the_later_one_counts_where_they_are_said_apart():
    assert checked_settings({"samples": {"a": [0]}, "limit": 1})[1] == ["samples and limit exclude each other"]
    whole = settings(limit=3)
    assert whole.changed({"samples": {"a": (0,)}}) == EvalSettings(samples={"a": (0,)})
    assert settings(samples={"a": [2, 1]}).changed({"limit": 3}) == EvalSettings(limit=3)


@pytest.mark.parametrize(("given", "wanted"), [(3, (3,) * 4), ([1, 2, 3], (1, 2, 3, 1234)), (None, (None,) * 4)])
def test_seeds_are_filled_up_as_lm_eval_does(given, wanted):
    assert settings(seed=given).seed == wanted


@pytest.mark.parametrize(
    ("limit", "of_ten"), [(None, 10), (3, 3), (3.0, 3), (1.0, 1), (0.25, 3), (0.999, 10), (99, 10)]
)
def test_a_limit_below_one_is_a_share_as_lm_eval_reckons_it(limit, of_ten):
    assert settings(limit=limit).count(10) == of_ten


def test_samples_are_those_of_the_task_and_a_benchmark_may_stand_for_its_only_task():
    made = settings(samples={"gsm8k": [3, 1], "other": [0]})
    assert made.of_tasks("gsm8k", ["gsm8k_task"]).samples == {"gsm8k_task": (1, 3)}
    assert made.of_tasks("group", ["gsm8k", "other", "more"]).samples == {"gsm8k": (1, 3), "other": (0,)}
    assert made.of_tasks("elsewhere", ["elsewhere"]).samples is None


def test_every_setting_that_is_not_lm_evals_default_is_recorded_and_nothing_else_is():
    assert EvalSettings().record() == {}
    assert EvalSettings(limit=3, seed=(1, 1, 1, 1)).record() == {}  # they have places of their own
    assert EvalSettings(fewshot_as_multiturn=False).record() == {}  # without a template it changes nothing
    assert settings(apply_chat_template=True, fewshot_as_multiturn=True).record() == {"apply_chat_template": True}
    made = settings(**VALUES, fewshot_as_multiturn=False)
    assert made.record().keys() == {*VALUES, "fewshot_as_multiturn"} == SETTINGS.keys() - {"limit", "seed"}
    seen = {str(made.record())}
    for name in VALUES:
        seen.add(str(replace(made, **{name: getattr(EvalSettings(), name)}).record()))
    assert len(seen) == 1 + len(VALUES)


def test_a_label_says_what_differs_and_stays_short():
    assert EvalSettings().label == ""
    assert settings(num_fewshot=5, limit=4).label == "num_fewshot=5, limit=4"
    assert len(settings(system_instruction="long " * 99).label) < 40
