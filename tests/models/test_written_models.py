"""Models of other kinds than the zoo's answer on both engines as they do from the folder that is written."""

from __future__ import annotations

import pytest

from tests.models.written_cases import CASES, PROMPTS, equal_answers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES)
def test_transformers_answers_as_on_the_written_folder(case, tmp_path):
    equal, answers = equal_answers("hf", case, tmp_path)
    assert equal == len(PROMPTS)
    assert len(set(answers)) > len(PROMPTS) / 4  # and not one answer to all


# The cases one by one, on vLLM: `python -m tests.models.written_cases vllm`. An engine takes half a minute to start.
@pytest.mark.vllm
@pytest.mark.exhaustive
def test_vllm_answers_as_on_the_written_folder_to_all_of_it_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "vllm"))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    equal, answers = equal_answers("vllm", "everything", tmp_path)
    assert equal == len(PROMPTS)
    assert len(set(answers)) > len(PROMPTS) / 4
