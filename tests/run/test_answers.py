"""How answers ended and how long they took, and what is said where a machine or a setting costs time or answers."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from della_bench.merge.stream import Merge
from della_bench.results.leaderboard import build_table
from della_bench.results.samples import read_samples
from della_bench.results.schema import read_provenance
from della_bench.run import advice
from della_bench.run.advice import advice_on_answers, advice_on_model, has_bf16
from della_bench.run.answers import AnswerLog
from della_bench.run.options import Options
from della_bench.run.runner import Runner
from della_bench.run.settings import EvalSettings
from della_bench.spec import MergeSpec
from tests.run.tasks import write_task

SPEC = MergeSpec.parse("base=zoo:base,experts=zoo:math,merge_method=passthrough,name=math")
OTHER = MergeSpec.parse("base=zoo:base,experts=zoo:code,merge_method=passthrough,name=code")
EOS = 1


class FakeHF:
    """As much of lm-eval's transformers model type as generates: each prompt is answered by its own ids."""

    engine = "hf"
    eot_token_id = EOS

    def __init__(self, answers: dict[str, list[int]], think_end_token: str | int | None = None) -> None:
        self.answers, self.think_end_token = answers, think_end_token
        self.cache_hook: Any = SimpleNamespace(add_partial=lambda *_: None)

    def tok_decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids))

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **_: Any) -> torch.Tensor:
        return torch.tensor([[0, 0, *self.answers[prompt]] for prompt in self.batch])

    def generate_until(self, requests: list[tuple[str, dict[str, Any]]], **_: Any) -> list[str]:
        self.batch = [prompt for prompt, _ in sorted(requests)]  # in an order of its own
        context = torch.zeros(len(requests), 2)
        outputs = self._model_generate(context=context, max_length=2 + 4, stop=["!"])
        for prompt, row in zip(self.batch, outputs.tolist(), strict=True):
            self.cache_hook.add_partial("generate_until", (prompt, {}), self.tok_decode(row))
        return []

    def loglikelihood(self, requests: Any) -> Any:
        return []

    loglikelihood_rolling = loglikelihood


def ids(text: str) -> list[int]:
    return [ord(each) for each in text]


def listened(answers: dict[str, str], **options: Any) -> AnswerLog:
    log = AnswerLog()
    model = FakeHF({prompt: ids(text) for prompt, text in answers.items()}, **options)
    log.attach(model)
    model.generate_until([(prompt, {}) for prompt in answers])
    return log


def test_an_answer_was_cut_where_nothing_ended_it_before_the_most_tokens():
    log = listened({"b": "abcd", "a": f"ab{chr(EOS)}d", "c": "a!cd", "d": "wxyz"})
    assert (log.count, log.cut, log.limit) == (4, 2, 4)
    assert log.unfinished == set()
    assert "unfinished_thoughts" not in log.summary()


@pytest.mark.parametrize("token", ["/", ord("/")])
def test_an_answer_without_the_end_of_its_thoughts_is_known_by_its_prompt(token):
    log = listened({"b": "ab/d", "a": "abcd", "c": "/abc"}, think_end_token=token)
    assert log.unfinished == {"a"}
    assert log.summary()["unfinished_thoughts"] == 1


def test_what_vllm_says_of_its_outputs_is_taken():
    def output(text: str, reason: str) -> Any:
        return SimpleNamespace(outputs=[SimpleNamespace(text=text, token_ids=ids(text), finish_reason=reason)])

    outputs = [output("thoughts", "length"), output("thoughts</think>4", "stop")]
    model: Any = FakeHF({}, think_end_token="</think>")
    model.engine = "vllm"
    model._model_generate = lambda **_: outputs

    def generate_until(requests: Any) -> list[str]:
        model._model_generate(requests=[], generate=True, sampling_params=[SimpleNamespace(max_tokens=9)] * 2)
        for request in requests:
            model.cache_hook.add_partial("generate_until", request, "")
        model._model_generate(requests=[])  # log-likelihoods
        return []

    model.generate_until = generate_until
    log = AnswerLog()
    log.attach(model)
    model.generate_until([("one", {}), ("two", {})])
    assert (log.count, log.cut, log.limit, log.unfinished) == (2, 1, 9, {"one"})


def counted(**counts: Any) -> AnswerLog:
    log = AnswerLog()
    vars(log).update(counts)
    return log


def test_advice_on_answers_comes_with_its_number_and_only_where_it_is_wanted():
    assert advice_on_answers("gsm8k", counted(count=40, cut=20, limit=1000), 8) == {}
    found = advice_on_answers(
        "gsm8k", counted(count=40, cut=31, limit=1000, unfinished={"a", "b"}, seconds=140.04), "1"
    )
    assert found["length"] == "gsm8k: 31 of 40 answers were cut at 1,000 tokens (max_gen_toks)"
    assert found["thoughts"] == "gsm8k: 2 of 40 answers never left their thoughts"
    assert found["batch"].startswith("gsm8k: 40 answers took 140.0 s one at a time: batch_size is 1")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("flags\t\t: sse2 avx512_bf16 amx_bf16\n", True),
        ("flags\t\t: sse2 avx2 avx512f\n", False),
        ("Features\t: fp asimd bf16\n", True),
        ("processor\t: 0\n", None),
        (None, None),
    ],
)
def test_a_processors_flags_say_whether_it_has_bf16_arithmetic(tmp_path, text, wanted):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    assert has_bf16(path) is wanted


def test_bf16_that_is_emulated_is_told_with_what_float32_would_take(monkeypatch):
    merge = Merge(SPEC)
    for has, device, dtype, told in (
        (False, "cpu", "torch.bfloat16", True),
        (True, "cpu", "torch.bfloat16", False),
        (None, "cpu", "torch.bfloat16", False),
        (False, "cuda:0", "torch.bfloat16", False),
        (False, "cpu", "torch.float32", False),
    ):
        monkeypatch.setattr(advice, "has_bf16", lambda has=has: has)
        found = advice_on_model(merge, dtype, device)
        assert bool(found) == told
    monkeypatch.setattr(advice, "has_bf16", lambda: False)
    text = advice_on_model(merge, "torch.bfloat16", "cpu")["dtype"]
    assert "GB of memory instead of" in text
    assert "M parameters" in text


def test_advice_is_said_once_and_stands_in_provenance_and_table_and_seconds_are_split(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(advice, "has_bf16", lambda: False)
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
    caplog.set_level(logging.WARNING, "della_bench")
    path = write_task(tmp_path / "sums.yaml")
    arguments = {"batch_size": 1, "device": "cpu"}
    settings = EvalSettings(gen_kwargs={"max_gen_toks": 1, "until": ["\n"]})
    made = Runner(Options(tmp_path / "runs", (str(path),), arguments=arguments, settings=settings), lambda line: None)
    assert made.run([SPEC, OTHER]) == []
    assert [record.message.partition(" ")[0] for record in caplog.records].count("dtype=bfloat16") == 1
    assert "sums: 4 of 4 answers were cut at 1 tokens (max_gen_toks)" in caplog.text
    assert caplog.text.count("were cut at") == caplog.text.count("one at a time") == 1
    notes = "\n".join(build_table([tmp_path / "runs"]).notes)
    assert "code, math: dtype=bfloat16 on a processor" in notes
    assert "code, math: sums: 4 of 4 answers were cut at 1 tokens" in notes
    for folder in (tmp_path / "runs").iterdir():
        known = read_provenance(folder / "provenance.json")
        assert known["advice"][0].startswith("dtype=bfloat16")
        (step,) = known["steps"].values()
        assert any("were cut at" in text for text in step["advice"])
        split = step["seconds_of"]
        assert split.keys() == {"merge", "generation", "scoring"}
        assert min(split.values()) > 0
        assert sum(split.values()) == pytest.approx(step["seconds"], abs=0.5)
        assert step["scores"]["lm_eval"]["seconds"] > 0
    assert list(made.seconds) == ["math", "code"]
    assert str(made.seconds["math"]).startswith("merge ")


def test_thoughts_without_an_end_are_marked_counted_and_no_response(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
    path = write_task(tmp_path / "sums.yaml")
    arguments = {"batch_size": 4, "device": "cpu", "think_end_token": "</think>"}
    assert Runner(Options(tmp_path / "runs", (str(path),), arguments=arguments), print).run([SPEC]) == []
    samples = next((tmp_path / "runs").glob("*/samples_*"))
    rows = [json.loads(line) for line in samples.open()]
    assert all(row["unfinished_thoughts"] for row in rows)
    assert any(row["resps"][0][0] for row in rows)  # what it thought stays there to be read
    assert {text for sample in read_samples(samples) for text in sample.responses} == {""}
    assert "sums: 4 of 4 answers never left their thoughts" in "\n".join(build_table([tmp_path / "runs"]).notes)
    results = json.loads(next((tmp_path / "runs").glob("*/results_*")).read_text())
    assert results["config"]["della_bench"]["answers"]["unfinished_thoughts"] == 4
