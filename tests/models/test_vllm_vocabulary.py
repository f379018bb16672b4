"""A merge with a vocabulary of its own in vLLM: one engine, which takes half a minute to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from della_bench.models.hf import DellaMergedLM
from tests.models.grown import TOKENS, grown
from tests.models.lm import ask
from tests.models.parity import digests, expected

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PROMPTS = ["Tom has 3 apples.<|math|>", "<|code|>def f(x):", "<|shared|>Hello<|math|><|code|>", "Hello"]


def test_the_special_tokens_of_both_experts_work_as_in_transformers(tmp_path: Path, monkeypatch):
    for name, value in {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1",
                        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    experts = [str(grown(tmp_path, name, tokens)) for name, tokens in TOKENS.items()]
    spec = {"base": "zoo:base", "experts": experts, "merge_method": "task_arithmetic", "weights": 0.5,
            "dtype": "float32", "tokenizer": "union", "pad_to_multiple_of": 8, "chat_template": "chatml"}  # fmt: skip
    hf = DellaMergedLM(**spec, device="cpu")
    lm = DellaMergedLM(engine="vllm", **spec, enforce_eager=True, max_model_len=512, gpu_memory_utilization=0.2)
    try:
        assert lm.tokenizer.get_vocab() == hf.tokenizer.get_vocab()
        for again in (False, True):
            if again:  # into the same engine, with rows of other numbers
                for model in (lm, hf):
                    model.remerge({**spec, "weights": [0.9, 0.2]})
            (found,) = lm.model.apply_model(digests)
            assert found == expected(hf.model, 0, 1)
            assert ask(lm, *PROMPTS, tokens=24) == ask(hf, *PROMPTS, tokens=24)
        chat = [{"role": "user", "content": "Hello"}]
        assert lm.apply_chat_template(chat) == hf.apply_chat_template(chat)
    finally:
        lm.model.llm_engine.engine_core.shutdown()
