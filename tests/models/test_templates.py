"""What `apply_chat_template` needs is looked at before anything is merged."""

from __future__ import annotations

import logging
import shutil

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

from della_bench.errors import SpecError
from della_bench.models import hf
from della_bench.plugin import register
from della_bench.resources import folder
from tests.models.lm import keys


class MergingBeganError(Exception):
    """Stands for the merge, which is not needed here."""


@pytest.fixture
def evaluate(monkeypatch):
    def build_model(*args, **options):
        raise MergingBeganError

    monkeypatch.setattr(hf, "build_model", build_model)
    register()

    manager = TaskManager(include_path=str(folder("tasks")), include_defaults=False)  # all of lm-eval's take seconds

    def run(spec, *tasks, **options):
        options = {"tasks": list(tasks), "limit": 1, "task_manager": manager, **options}
        lm_eval.simple_evaluate(model="della_merged", model_args={**spec, "device": "cpu"}, **options)

    return run


@pytest.fixture
def templated(family, tmp_path):
    """A tokenizer with the templates `default` and `tools`."""
    copy = shutil.copytree(family["base"], tmp_path / "templated")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.chat_template = {"default": "{{ messages }}", "tools": "{{ tools }}"}
    tokenizer.save_pretrained(copy)
    return copy


def test_a_tokenizer_without_a_template_is_refused_before_merging(family, evaluate):
    with pytest.raises(SpecError, match=r"no chat template; name a source that has one as chat_template=SOURCE"):
        evaluate(keys(family, "a"), "zoo_math", apply_chat_template=True)


def test_a_template_of_another_name_is_refused_before_merging(family, evaluate, templated):
    spec = keys(family, "a", chat_template=str(templated))
    with pytest.raises(SpecError, match="no template 'rag', but default, tools"):
        evaluate(spec, "zoo_math", apply_chat_template="rag")


@pytest.mark.parametrize("wanted", [True, "tools", False])
def test_a_template_that_is_there_is_taken(family, evaluate, templated, wanted):
    with pytest.raises(MergingBeganError):
        evaluate(keys(family, "a", chat_template=str(templated)), "zoo_math", apply_chat_template=wanted)


def test_a_task_whose_prompts_hold_a_template_already_says_so(family, evaluate, templated, caplog):
    caplog.set_level(logging.WARNING, "della_bench")
    spec = keys(family, "a", chat_template=str(templated))
    with pytest.raises(MergingBeganError):
        evaluate(spec, "mbpp_alpaca_sampled", "zoo_chat", apply_chat_template=True, confirm_run_unsafe_code=True)
    assert "mbpp_alpaca_sampled: its prompts hold the template of Alpaca already" in caplog.text
    assert "zoo_chat: its prompts hold the template of Vicuna already" in caplog.text
