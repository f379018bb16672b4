"""Asking a model of lm-eval, and the arguments of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance

__all__ = ["DELLA", "ask", "keys"]

DELLA = {"merge_method": "della", "drop_rate": 0.3, "window_size": 0.14, "lambda_factor": 1.1}


def keys(family: dict[str, Path], *experts: str, **others: Any) -> dict[str, Any]:
    return {"base": str(family["base"]), "experts": [str(family[name]) for name in experts], **DELLA, **others}


def ask(lm: Any, *prompts: str, tokens: int = 8) -> list[str]:
    options = {"until": ["</s>"], "max_gen_toks": tokens, "do_sample": False}
    requests = [Instance("generate_until", {}, (prompt, dict(options)), i) for i, prompt in enumerate(prompts)]
    return lm.generate_until(requests)
