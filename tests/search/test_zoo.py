"""A search with a real engine on the zoo, and what becomes of an engine that dies."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from della_bench.errors import MergeError
from della_bench.run.options import Options
from della_bench.search import answering
from della_bench.search.answering import Answerer
from della_bench.search.search import Search
from della_bench.spec import MergeSpec
from della_bench.zoo import folder
from tests.search.making import plan


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return an expert with NaN in one tensor."""
    from safetensors.torch import load_file, save_file

    path = tmp_path / "broken"
    shutil.copytree(folder("math"), path)
    tensors = load_file(path / "model.safetensors")
    name = next(name for name in tensors if "mlp" in name)
    tensors[name].view(-1)[3] = float("nan")
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_one_engine_takes_candidates_and_those_that_fail_between_them(broken, tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path / "cache"))
    space: dict[str, Any] = {
        "base": "zoo:base",
        "experts": [{"choices": ["zoo:math", str(broken)]}, "zoo:code"],
        "merge_method": "task_arithmetic",
        "lambda": {"low": 0.5, "high": 1.0, "step": 0.5},
    }
    items = {"search": 4, "select": 2, "test": 4}
    search = {"benchmarks": ["zoo_math"], "sampler": "grid", "trials": None, "items": items, "experts": False}
    outcome = Search(plan(tmp_path / "out", space, search, options={"arguments": {"batch_size": 4}})).run()
    states = sorted((each.state, str(each.spec.experts[0])) for each in outcome.candidates)
    assert [state for state, _ in states] == ["complete", "complete", "failed", "failed"]
    assert {expert for state, expert in states if state == "failed"} == {str(broken)}
    assert all("holds NaN or infinity" in each.reason for each in outcome.candidates if each.state == "failed")
    assert outcome.winner is not None
    assert outcome.winner.has("test", plan(tmp_path / "out", space, search).sets["test"])


class Dying:
    """An engine that dies so many times before it works."""

    def __init__(self, deaths: int) -> None:
        self.deaths, self.starts, self.closed = deaths, 0, 0

    def load(self, spec: MergeSpec) -> Any:
        self.starts += 1
        if self.starts <= self.deaths:
            raise RuntimeError("CUDA out of\nmemory")

        class Model:
            def get_model_info(self) -> dict[str, Any]:
                return {"della_bench": {}, "model_dtype": "x"}

        return Model()

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("deaths", [1, 2])
def test_an_engine_that_dies_is_started_anew_and_asked_once_more(monkeypatch, tmp_path, deaths):
    engine = Dying(deaths)
    monkeypatch.setattr(answering, "Engine", lambda *_, **__: engine)
    made = plan(tmp_path)
    answerer = Answerer(made.tasks, Options(tmp_path, ()), lambda *_: None)
    if deaths == 1:
        assert answerer.answer(made.example(), {}).samples == {}
    else:
        with pytest.raises(MergeError, match="the engine failed twice: RuntimeError: CUDA out of memory"):
            answerer.answer(made.example(), {})
    assert engine.starts == 2
    assert engine.closed == deaths
