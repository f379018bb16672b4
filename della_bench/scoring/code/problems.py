"""The problems of MBPP and HumanEval as the sandbox needs them: what runs before, with and after a candidate."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict, cast, final

from della_bench.errors import UsageError
from della_bench.scoring.code.extract import begins_with_future
from della_bench.scoring.code.names import names_asked_for
from della_bench.scoring.sandbox import Program
from della_bench.suggest import nearest

__all__ = ["BENCHMARKS", "HumanEvalDoc", "MbppDoc", "Problem", "load_problems", "problem_of"]

_WITH_PROGRAMS = ("mbpp", "humaneval")

BENCHMARKS = ("mbpp", "humaneval")

# The fields that decide about an answer: those of a logged document must be the data set's.
DECISIVE = {"mbpp": ("test_list",), "humaneval": ("prompt", "test", "entry_point")}


@final
class MbppDoc(TypedDict):
    """A row of MBPP."""

    task_id: int
    text: str
    code: str
    test_list: list[str]
    test_setup_code: str
    challenge_test_list: list[str]


@final
class HumanEvalDoc(TypedDict):
    """A row of HumanEval."""

    task_id: str
    prompt: str
    canonical_solution: str
    test: str
    entry_point: str


@dataclass(frozen=True)
class Problem:
    """One problem: where it stands in the data set, what a program continues, and what decides about it.

    key: its task_id as text ("11", "HumanEval/0"). doc: its row. doc_hash: what lm-eval would log for that.
    prompt: source that an answer goes on from (HumanEval), or "".
    setup: trusted source that runs before the tests: MBPP's own, and what a HumanEval prompt defines beside the
        function in question, since some tests call it (32, 38 and 50; a candidate's `poly` could say anything).
    asked: names that the tests need.
    """

    key: str
    doc_id: int
    doc: MbppDoc | HumanEvalDoc
    doc_hash: str
    prompt: str
    tests: tuple[str, ...]
    setup: str
    asked: frozenset[str]

    def continued(self, text: str) -> str:
        """Return the program that `text` makes behind the prompt.

        A program with a __future__ import stands for itself: nothing may go before that.
        """
        if begins_with_future(text):
            return text
        return self.prompt + ("" if self.prompt.endswith("\n") or not self.prompt else "\n") + text

    def sandboxed(self, code: str, *, with_setup: bool = True) -> Program:
        """Return what the sandbox runs to judge `code`."""
        return Program(key=self.key, code=code, tests=self.tests, setup=self.setup if with_setup else "")


def load_problems(benchmark: str) -> list[Problem]:
    """Return all problems of `benchmark` in the data set's order.

    Raises UsageError for another name than mbpp and humaneval, DataError where the data are not to be had.
    """
    from della_bench import data

    if benchmark not in _WITH_PROGRAMS:
        raise UsageError(f"{benchmark!r} has no programs{nearest(benchmark, _WITH_PROGRAMS)}", argument="benchmark")
    return [problem_of(benchmark, doc_id, doc) for doc_id, doc in enumerate(data.load(benchmark))]


def problem_of(benchmark: str, doc_id: int, doc: Mapping[str, object]) -> Problem:
    """Return the problem that a row of the data set states."""
    # della_bench.data has looked at the fields and their types; lm-eval's documents are its rows.
    return _mbpp(doc_id, cast(MbppDoc, doc)) if benchmark == "mbpp" else _humaneval(doc_id, cast(HumanEvalDoc, doc))


def _mbpp(doc_id: int, doc: MbppDoc) -> Problem:
    tests, setup = tuple(doc["test_list"]), doc["test_setup_code"]
    return Problem(
        key=str(doc["task_id"]),
        doc_id=doc_id,
        doc=doc,
        doc_hash=_hash(doc),
        prompt="",
        tests=tests,
        setup=setup,
        asked=names_asked_for(tests, setup),
    )


def _humaneval(doc_id: int, doc: HumanEvalDoc) -> Problem:
    return Problem(
        key=doc["task_id"],
        doc_id=doc_id,
        doc=doc,
        doc_hash=_hash(doc),
        prompt=doc["prompt"],
        tests=(doc["test"], f"check({doc['entry_point']})"),
        setup=_beside(doc["prompt"], doc["entry_point"]),
        asked=frozenset({doc["entry_point"]}),
    )


def _hash(doc: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest()


def _beside(prompt: str, entry_point: str) -> str:
    """Return the source of what a prompt imports and defines beside the function that it asks for."""
    try:
        body = ast.parse(prompt).body  # a function with a docstring is a whole one
    except SyntaxError:
        return ""
    kept = [node for node in body if not (isinstance(node, ast.FunctionDef) and node.name == entry_point)]
    return "\n".join(ast.unparse(node) for node in kept)
