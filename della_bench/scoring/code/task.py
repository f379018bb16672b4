"""What the tasks mbpp_alpaca and humaneval_alpaca say to lm-eval beside their YAML: prompts, filter, metrics."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from della_bench.errors import SandboxError
from della_bench.scoring.code.passk import ks_up_to, pass_at_k
from della_bench.scoring.code.problems import problem_of
from della_bench.scoring.code.verdicts import Answer, Extraction, Judged, Settings, clean, find_program, judge
from della_bench.scoring.guard import unsafe_allowed
from della_bench.scoring.sandbox import find_level

__all__ = ["humaneval_prompt", "mbpp_prompt", "metrics_of", "run_replies"]

# Below lm-eval's own logger: its command line shows what that says, and no other logger's plain messages.
log = logging.getLogger("lm_eval.della_bench")

# The DELLA authors' and WizardCoder's, with its second empty line.
TEMPLATE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n\n"
    "### Instruction:\nCreate a Python script for this problem:\n{problem}\n\n### Response:"
)

# Its tests fill a page of numbers; the prompt has the call that they share instead.
TOO_LONG_TESTS = {493: "calculate_polygons(startx, starty, endx, endy, radius)"}


def mbpp_prompt(doc: Mapping[str, Any]) -> str:
    """Return the prompt of one MBPP problem: its text and its tests as examples, four blanks as a tab.

    Source: declare-lab/della, generate.py, which has it from WizardCoder's mbpp_gen.py.
    """
    examples = [TOO_LONG_TESTS[doc["task_id"]]] if doc["task_id"] in TOO_LONG_TESTS else doc["test_list"]
    return _prompt("\n".join(["", doc["text"], "Test examples:", *examples]))


def humaneval_prompt(doc: Mapping[str, Any]) -> str:
    """Return the prompt of one HumanEval problem: its signature and docstring, four blanks as a tab.

    Source: WizardCoder's humaneval_gen.py.
    """
    return _prompt(doc["prompt"])


def _prompt(problem: str) -> str:
    return TEMPLATE.format(problem=problem.replace("    ", "\t"))


def run_replies(
    benchmark: str,
    replies: Iterable[Sequence[str]],
    docs: Sequence[Mapping[str, Any]],
    extraction: Extraction = "standard",
) -> list[list[str]]:
    """Filter: run the programs of all replies of a task together and return a JSON text for each.

    replies: one list a document. Each text is an object with program, rule, verdict and explanation. Where no sandbox
    is to be had all verdicts are `sandbox`, so that the replies are logged and can be scored elsewhere.
    """
    problems = [problem_of(benchmark, position, doc) for position, doc in enumerate(docs)]
    answers = [[Answer(clean(text), "reply") for text in of_one_doc] for of_one_doc in replies]
    settings = Settings(extraction=extraction, allow_unsafe=unsafe_allowed(), workers=_workers())
    try:
        level = find_level(allow_unsafe=settings.allow_unsafe)
        log.info("running %d programs in sandbox level %s", sum(map(len, answers)), level.name)
        verdicts = judge(problems, answers, settings, level)
    except SandboxError as error:
        log.error("no program was run, nothing is scored: %s", error)
        verdicts = [
            [Judged(*_program(problem, answer, extraction), "sandbox", str(error)) for answer in group]
            for problem, group in zip(problems, answers, strict=True)
        ]
    faults = sum(one.passed is None for group in verdicts for one in group)
    if faults:
        log.warning("%d programs are unscored: the sandbox, not the program, is at fault", faults)
    return [[json.dumps(one.row(), ensure_ascii=False) for one in group] for group in verdicts]


def metrics_of(results: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return pass@1, and pass@k for as many answers as there are, from what `run_replies` returned for one document.

    A document of which no answer could be run has no metric, and so no part in any mean.
    """
    verdicts = [json.loads(text)["verdict"] for text in results[0]]
    n, passed = sum(verdict != "sandbox" for verdict in verdicts), verdicts.count("passed")
    return {f"pass@{k}": pass_at_k(n, passed, k) for k in ks_up_to(n)}


def _program(problem: Any, answer: Answer, extraction: Extraction) -> tuple[str, str]:
    extracted = find_program(problem, answer, extraction)
    return extracted.program, extracted.rule


def _workers() -> int | None:
    """Return this process's share of the cores where lm-eval runs as several processes, else None."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // processes) if processes > 1 else None
