"""A file of settings: lm-eval's keys, benchmarks with settings of their own, and every fault of it at once."""

from __future__ import annotations

from typing import Any

import yaml

from della_bench.run.config_file import read_config


def written(tmp_path, value: Any):
    path = tmp_path / "config.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return read_config(path)


def test_a_file_gives_settings_of_all_benchmarks_and_of_one_and_options_of_the_command(tmp_path):
    own = {"num_fewshot": 5, "samples": [4, 2]}
    found = written(
        tmp_path,
        {
            "benchmarks": ["zoo_chat", {"gsm8k": own}, {"mmlu": None}],
            "limit": 0.5,
            "seed": [0, None, 1, 2],
            "gen_kwargs": {"max_gen_toks": 200},
            "batch_size": 4,
            "model_args": {"enable_thinking": True, "think_end_token": "</think>"},
            "with_base": True,
            "max_cost": 2.5,
        },
    )
    assert found.faults == ()
    assert found.settings == {"limit": 0.5, "seed": (0, None, 1, 2), "gen_kwargs": {"max_gen_toks": 200}}
    assert found.by_benchmark == {"gsm8k": {"num_fewshot": 5, "samples": {"gsm8k": (2, 4)}}}
    assert found.options == {
        "benchmarks": "zoo_chat,gsm8k,mmlu",
        "batch_size": "4",
        "model_args": "enable_thinking=True,think_end_token=</think>",
        "with_base": True,
        "max_cost": "2.5",
    }


def test_all_faults_of_a_file_are_told_at_once_each_with_its_place(tmp_path):
    found = written(
        tmp_path,
        {
            "benchmarks": [{"gsm8k": {"num_fewshots": 5, "device": "cpu"}}, 3, "zoo_math", "zoo_math"],
            "limits": 3,
            "num_fewshot": "five",
            "tasks": ["mmlu"],
            "batch_size": None,
            "limit": 2,
            "samples": {"zoo_math": [0]},
        },
    )
    place = f"{tmp_path / 'config.yaml'}: "
    faults = [fault.removeprefix(place) for fault in found.faults]
    assert len(faults) == len(found.faults) == 9
    assert all(fault.startswith(place) for fault in found.faults)
    text = "\n".join(faults)
    for part in (
        "gsm8k: num_fewshots: lm-eval has no such setting; did you mean 'num_fewshot'?",
        "gsm8k: device: of the whole run, not of one benchmark",
        "benchmarks: a name, or a name with settings, got 3",
        "benchmarks: zoo_math stands there twice",
        "limits: neither lm-eval nor `della-bench run` has such a key; did you mean 'limit'",
        "num_fewshot=five: a whole number from 0 on",
        "tasks: write benchmarks",
        "batch_size=None: a number from 1 on, auto, or auto:N",
        "samples and limit exclude each other",
    ):
        assert part in text


def test_what_is_no_file_of_settings_is_told(tmp_path):
    assert "cannot be read" in read_config(tmp_path / "absent.yaml").faults[0]
    for text, fault in (("- a", "names with values, got list"), ("a: 1\na: 2", "given twice"), ("a: [", "cannot be")):
        assert fault in written(tmp_path, text).faults[0]
    wrong: tuple[Any, ...] = (None, [], {}, 3)
    for benchmarks in wrong:
        assert "benchmarks: a list of names" in written(tmp_path, {"benchmarks": benchmarks}).faults[0]
