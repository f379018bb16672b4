"""Models of other kinds than the zoo's answer on transformers as they do from the folder that is written.

On vLLM, `python -m tests.models.written_cases vllm` asks the same; an engine takes half a minute to start.
"""

from __future__ import annotations

import pytest

from tests.models.written_cases import CASES, PROMPTS, equal_answers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("case", CASES)
def test_transformers_answers_as_on_the_written_folder(case, tmp_path):
    equal, answers = equal_answers("hf", case, tmp_path)
    assert equal == len(PROMPTS)
    assert len(set(answers)) > len(PROMPTS) / 4  # and not one answer to all
