"""The tests' process: it holds no line of the candidate's, runs the tests against handles, and says the verdict."""

from __future__ import annotations

import ast
import builtins
import importlib
import socket
import types
from typing import Any

from della_bench.scoring.sandbox.inside.remote import (
    TESTS_MODULE,
    CandidateEndedError,
    CandidateLeftError,
    ProtocolError,
    Remote,
    UnsendableError,
    raised_in,
)
from della_bench.scoring.sandbox.inside.rows import MODULES, Said, TestsJob

__all__ = ["check"]

TESTS, SETUP = "<tests>", "<setup>"
LONGEST_TEXT = 300
Verdict = tuple[str, str]


def check(connection: socket.socket, job: TestsJob) -> Said:
    """Return the verdict of the tests in `job`; the verdict `gone` is for whoever saw the candidate end.

    Whatever the candidate sends ends in a verdict: were it to raise here, it could choose to have none.
    """
    remote = Remote(connection)
    try:
        verdict, explanation = _check(remote, job)
    except CandidateEndedError:
        verdict, explanation = "gone", ""
    except ProtocolError as error:
        verdict = "error"
        explanation = f"the candidate broke the protocol between it and its tests: {_cut(str(error))}"
    except MemoryError:
        verdict, explanation = "memory", "the candidate's answer does not fit the tests' memory"
    except BaseException as error:
        verdict, explanation = "error", f"the candidate's answers broke its tests: {type(error).__name__}"
    return {"verdict": verdict, "explanation": explanation, "own_word": list(remote.notes)}


def _check(remote: Remote, job: TestsJob) -> Verdict:
    first = remote.receive()
    if first[0] in ("syntax", "empty"):
        return str(first[0]), _cut(str(first[1])) if len(first) > 1 else "no statement"
    if first[0] == "raised":
        return _of_candidate(raised_in(first), "")
    if first != ["ready"]:
        raise ProtocolError("no first message")
    sources = [(TESTS, job["tests"])] if job["one_namespace"] else [(SETUP, job["setup"]), (TESTS, job["tests"])]
    if job["one_namespace"]:
        try:
            compile(job["code"] + "\n" + job["tests"], "<program>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            return "syntax", f"with its tests: {_cut(str(error))}"
    try:
        compiled = [compile(text, name, "exec", dont_inherit=True) for name, text in sources]
    except (SyntaxError, ValueError) as error:
        return "sandbox", f"the tests are no Python: {_cut(str(error))}"
    namespace = _namespace(remote, compiled, everything=job["one_namespace"])
    for code, (name, text) in zip(compiled, sources, strict=True):
        try:
            exec(code, namespace)
        except (CandidateEndedError, ProtocolError):
            raise
        except UnsendableError as error:
            return "sandbox", str(error)
        except BaseException as error:  # the tests' verdict, whatever it is
            return _of_tests(error, _place(error, name, text))
    remote.bind([])  # the candidate must be there still: tests that catch everything do not see it end
    return "passed", ""


def _namespace(remote: Remote, compiled: list[types.CodeType], everything: bool) -> dict[str, Any]:
    """Return the tests' globals: the candidate's names that they use.

    A module, and what was imported from one under its own name, is imported here: a test that says `math.isclose` gets
    the real one. A name of the candidate's that hides a builtin or a standard module is taken where the tests use no
    other name of the candidate's (the function under test is called `sum`), or where `everything` is.
    """
    used = sorted({name for code in compiled for name in _names(code)})
    bound_names = remote.bind(used)
    if not everything and any(not _hides(name, kind) for name, (kind, _) in bound_names.items()):
        bound_names = {name: bound for name, bound in bound_names.items() if not _hides(name, bound[0])}
    namespace: dict[str, Any] = {"__name__": TESTS_MODULE, "__builtins__": builtins}
    for name, (kind, value) in bound_names.items():
        if kind == "value":
            namespace[name] = value
        elif kind == "module":
            if value in MODULES and (name == value or name not in MODULES):
                namespace[name] = importlib.import_module(value)
        elif value in MODULES and hasattr(importlib.import_module(value), name):
            namespace[name] = getattr(importlib.import_module(value), name)
    return namespace


def _hides(name: str, kind: str) -> bool:
    """Return whether a name that the candidate made itself would hide one that its tests may mean otherwise."""
    return kind == "value" and (hasattr(builtins, name) or name in MODULES)


def _names(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _of_tests(error: BaseException, place: str) -> Verdict:
    if hasattr(error, "from_candidate"):
        return _of_candidate(error, place)
    if isinstance(error, MemoryError):
        return "memory", f"{place}: MemoryError"
    if isinstance(error, AssertionError):
        text = _cut(str(error))
        return "failed", f"{place}: {text}" if text else place
    return "error", f"{place}: {type(error).__name__}: {_cut(str(error))}"


def _of_candidate(error: BaseException, place: str) -> Verdict:
    name, text, line = error.from_candidate  # type: ignore[attr-defined]
    where = f" (the candidate's line {line})" if line else ""
    message = f"{name}: {_cut(text)}{where}" if text else f"{name}{where}"
    kind = "memory" if isinstance(error, MemoryError) else "error"
    return kind, f"{place}: {message}" if place and not isinstance(error, CandidateLeftError) else message


def _place(error: BaseException, name: str, text: str) -> str:
    """Return the line of the tests that raised `error`, with its statement."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == name:
            line = trace.tb_lineno
        trace = trace.tb_next
    label = "line" if name == TESTS else "setup line"
    return f"{label} {line}: {_cut(_statement(text, line))}"


def _statement(text: str, line: int) -> str:
    """Return the source of the innermost statement at `line`, on one line."""
    segment = ""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            segment = ast.get_source_segment(text, node) or segment  # the walk goes from the outside in
    return " ".join(segment.split())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."
