from __future__ import annotations

import datetime
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from della_bench.errors import JudgeError
from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.config import load_judge
from della_bench.judging.prices import known
from della_bench.resources import folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder("judges") / "gsm8k_gpt4", tmp_path / "my_judge"))


def edit(copy: Path, old: str, new: str) -> None:
    path = copy / "judge.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", sorted(path.parent.name for path in folder("judges").glob("*/judge.yaml")))
def test_a_shipped_judge_loads_with_a_price_and_a_bounded_answer(name: str) -> None:
    judge = load_judge(name)
    assert judge.price is not None
    assert {"max_tokens", "max_completion_tokens"} & judge.config.parameters.keys()


def test_a_shipped_judge_is_copied_to_make_another(copy: Path) -> None:
    edit(copy, "gpt-4.1-2025-04-14", "my-model")
    judge = load_judge(str(copy))
    assert (judge.name, judge.config.model) == ("my_judge", "my-model")
    assert load_judge(copy / "judge.yaml") == judge


def test_the_version_changes_with_all_that_can_change_a_verdict_and_not_with_the_price(copy: Path) -> None:
    first = load_judge(copy).version
    edit(copy, "input: 2.00", "input: 3.00")
    assert load_judge(copy).version == first
    edit(copy, "temperature: 0", "temperature: 1")
    second = load_judge(copy).version
    (copy / "user.md").write_text((copy / "user.md").read_text() + "!")
    assert len({first, second, load_judge(copy).version}) == 3


def test_all_faults_are_named_together(copy: Path) -> None:
    edit(copy, "attempts: 3", "atempts: 3\nparameters: {stream: true}")
    edit(copy, "read: tag", "reed: tag")
    edit(copy, "output: 8.00", "output: -8")
    with pytest.raises(JudgeError) as caught:
        load_judge(copy)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    for expected in ("'atempts'; did you mean 'attempts'?", "'verdict.reed'; did you mean 'read'?", "price.output"):
        assert expected in message


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("judge.yaml", "  temperature: 0", "  n: 3", "n (ask for several `votes`)"),
        ("judge.yaml", "  temperature: 0", "  temperature: .nan", "parameters: not JSON"),
        ("judge.yaml", "  temperature: 0", "  day: 2027-01-14", "parameters: not JSON"),
        ("judge.yaml", "model: gpt-4.1-2025-04-14", "", "no key 'model'"),
        ("judge.yaml", "correct: A", "correct: B", "correct and wrong are both 'B'"),
        ("judge.yaml", "user: user.md", "user: there.md", "there.md"),
        ("judge.yaml", "benchmark: gsm8k", "benchmark: [", "judge.yaml"),
        ("user.md", "{response}", "{answer}", "no {response}"),
        ("user.md", "{response}", "{respons} {response}", "{respons}; did you mean 'response'?"),
    ],
)
def test_a_fault_names_the_file_and_what_is_wrong(copy: Path, file: str, old: str, new: str, expected: str) -> None:
    path = copy / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(JudgeError, match=r"judge\.yaml") as caught:
        load_judge(copy)
    assert expected in str(caught.value)


def test_an_unknown_judge_is_answered_with_the_nearest() -> None:
    with pytest.raises(JudgeError, match="did you mean 'gsm8k_gpt4'"):
        load_judge("gsm8k_gpt")


def test_another_model_has_its_known_price_and_end_and_any_may_be_given() -> None:
    judge = load_judge("gsm8k_gpt4")
    asking = judge.with_model("gpt-4", alias=False)
    assert asking.price == Price(Decimal(30), Decimal(60))
    assert asking.config.ends == datetime.date(2026, 10, 23)
    assert judge.with_model("unheard-of", alias=False).price is None
    given = asking.with_price(Price(Decimal(1), Decimal(2)))
    assert given.price == Price(Decimal(1), Decimal(2))
    assert given.version == asking.version  # a price changes no verdict


@pytest.mark.parametrize("name", ["gsm8k_gpt4", "gsm8k_gpt5_mini"])
def test_a_shipped_judges_price_and_end_are_those_of_the_table(name: str) -> None:
    judge = load_judge(name)
    facts = known(judge.config.model)
    assert facts is not None
    assert (facts.price, facts.ends) == (judge.price, judge.config.ends)


def test_the_announced_end_is_a_warning_from_its_day_on(copy: Path) -> None:
    judge = load_judge(copy)
    assert judge.ended(datetime.date(2027, 1, 13)) is None
    assert "2027-01-14" in (judge.ended(datetime.date(2027, 1, 14)) or "")


def test_another_model_makes_another_name_without_a_price_but_a_deployment_is_the_same_judge() -> None:
    judge = load_judge("gsm8k_gpt4")
    local = judge.with_model("meta/llama 3", alias=False)
    assert local.name == "gsm8k_gpt4-meta_llama_3"
    assert local.price is None
    azure = judge.with_model("my-deployment", alias=True)
    assert (azure.name, azure.price) == (judge.name, judge.price)
    assert azure.request("q", "r", "s")["model"] == "my-deployment"


def test_a_folder_cannot_take_the_name_of_judging_by_numbers(copy: Path) -> None:
    with pytest.raises(JudgeError, match="exact stands for judging by numbers"):
        load_judge(copy.rename(copy.with_name("exact")))
