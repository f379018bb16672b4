"""What holds for all commands alike: one name means one thing."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer

from della_bench.cli import app, main
from della_bench.spec import MergeSpec

SPEC = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5"


def commands(command: Any, path: str = "") -> dict[str, Any]:
    below = getattr(command, "commands", {})
    found = {f"{path} {name}".strip(): each for name, each in below.items()}
    return found | {name: each for parent, sub in list(found.items()) for name, each in commands(sub, parent).items()}


OPTIONS = [
    (name, parameter)
    for name, command in commands(typer.main.get_command(app)).items()
    for parameter in command.params
    if parameter.opts[0].startswith("-")
]


def with_option(option: str) -> dict[str, Any]:
    return {name: parameter for name, parameter in OPTIONS if option in parameter.opts}


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_what_is_written_is_named_by_the_same_option_everywhere():
    found = with_option("--out")
    assert {"merge", "run", "score", "leaderboard", "demo", "judge gsm8k", "judge alpaca_eval"} <= found.keys()
    assert all("-o" in parameter.opts for parameter in found.values())


def test_json_is_a_flag_with_the_same_words_everywhere():
    found = with_option("--json")
    assert {"spec", "methods", "info", "judge list"} <= found.keys()
    assert {(parameter.is_flag, parameter.help) for parameter in found.values()} == {
        (True, "Print JSON for other programs.")
    }


def test_a_limit_is_of_what_is_evaluated_or_judged_and_not_of_what_is_shown():
    found = {name: parameter for name, parameter in with_option("--limit").items() if parameter.opts[0] == "--limit"}
    assert found.keys() == {"run", "demo", "score", "judge gsm8k", "judge alpaca_eval"}
    assert all(parameter.help.startswith("Only ") for parameter in found.values())
    assert {name for name, parameter in with_option("--most").items() if "--limit" in parameter.opts} == {
        "show",
        "compare",
    }


def test_a_spec_is_read_in_all_forms_that_run_takes(tmp_path, capsys):
    path = tmp_path / "specs.yaml"
    path.write_text(
        f"- {SPEC}\n- {{base: zoo:base, experts: [zoo:math], merge_method: task_arithmetic, lambda: 0.5}}\n"
    )
    code, said = call(capsys, "spec", path, SPEC.replace("0.5", "0.7"), "--json")
    assert code == 0
    found = [MergeSpec.parse(each["keys"]) for each in json.loads(said.out)]
    assert [spec.merge_method for spec in found] == ["ties", "task_arithmetic", "ties"]
    code, said = call(capsys, "spec", path)
    assert code == 0
    assert all(spec.digest in said.out for spec in found[:2])


def test_a_shell_completes_commands_options_and_benchmarks(capsys, monkeypatch):
    monkeypatch.setenv("_DELLA_BENCH_COMPLETE", "complete_bash")
    for words, expected in (
        ("della-bench lead", "leaderboard"),
        ("della-bench run x --benchmarks gsm8k,zoo_m", "gsm8k,zoo_math"),
        ("della-bench score hum", "humaneval"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        code, said = call(capsys)
        assert code == 0
        assert expected in said.out.split()


def test_info_names_what_a_bug_report_needs_and_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    code, said = call(capsys, "info", "--json")
    assert code == 0
    found = json.loads(said.out)
    assert found.keys() == {"versions", "machine", "devices", "sandbox", "caches", "extras", "trackers"}
    assert found["versions"].keys() >= {"python", "della_bench", "lm_eval", "torch", "transformers", "openai"}
    assert "cpu" in found["devices"]
    assert "level" in found["sandbox"]
    assert found["extras"]["ray"]
    assert "secret" not in said.out
