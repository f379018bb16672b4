"""What stands beside the weights in the base counts on both engines as it does in the folder that is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM

from della_bench import zoo
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.hf import DellaMergedLM
from della_bench.spec import MergeSpec
from tests.models.lm import ask

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

PROMPTS = [f"Tom has {number} apples and buys {number + 3} more. How many has he?" for number in range(40)]
TEMPLATE = "{% for message in messages %}<{{ message.role }}> {{ message.content }}{% endfor %}"
CHAT = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A merge whose base has a penalty, two end tokens and a chat template in a file of its own."""
    base = tmp_path_factory.mktemp("sources") / "base"
    shutil.copytree(zoo.folder("base"), base)
    settings = json.loads((base / "generation_config.json").read_text())
    ends = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    settings |= {"repetition_penalty": 1.3, "eos_token_id": [settings["eos_token_id"], ends["."]]}
    (base / "generation_config.json").write_text(json.dumps(settings))
    (base / "chat_template.jinja").write_text(TEMPLATE)
    return {"base": str(base), "experts": "zoo:math+zoo:chat", "merge_method": "task_arithmetic", "dtype": "float32"}


@pytest.fixture(scope="module")
def folder(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(Merge(MergeSpec.parse(spec)), tmp_path_factory.mktemp("written") / "merged", progress=False)


@pytest.fixture(scope="module")
def plain_answers() -> list[str]:
    """Of the same merge over a base without these settings."""
    keys = {"experts": "zoo:math+zoo:chat", "merge_method": "task_arithmetic", "dtype": "float32"}
    return ask(DellaMergedLM(base="zoo:base", **keys, batch_size=20), *PROMPTS, tokens=24)


def test_transformers_answers_as_on_the_written_folder(spec, folder, plain_answers):
    ours, theirs = DellaMergedLM(**spec, batch_size=20), HFLM(pretrained=str(folder), device="cpu", batch_size=20)
    answers = ask(ours, *PROMPTS, tokens=24)
    assert answers == ask(theirs, *PROMPTS, tokens=24)
    assert answers != plain_answers
    assert ours.apply_chat_template(CHAT) == theirs.apply_chat_template(CHAT) == "<user> Hello"


@pytest.fixture(scope="module")
def engine_options(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CACHE_ROOT", str(tmp_path_factory.mktemp("vllm")))
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield {"enforce_eager": True, "max_model_len": 512, "gpu_memory_utilization": 0.2}


@pytest.mark.vllm
def test_vllm_answers_as_on_the_written_folder(spec, folder, plain_answers, engine_options):
    from lm_eval.models.vllm_causallms import VLLM

    def answers_of(lm: Any) -> tuple[list[str], str]:
        try:
            return ask(lm, *PROMPTS, tokens=24), lm.apply_chat_template(CHAT)
        finally:
            lm.model.llm_engine.engine_core.shutdown()

    ours = answers_of(DellaMergedLM(engine="vllm", **spec, **engine_options))
    theirs = answers_of(VLLM(pretrained=str(folder), dtype="float32", **engine_options))
    assert ours == theirs
    assert ours[0] != plain_answers
    assert ours[1] == "<user> Hello"
