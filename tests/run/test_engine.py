from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest

from della_bench.errors import DellaBenchError, MergeError
from della_bench.merge.fingerprint import Inputs, digest_files, fingerprint, input_files
from della_bench.merge.stream import Merge
from della_bench.models.hf import DellaMergedLM
from della_bench.run.engine import Engine
from della_bench.run.evaluator import LocalEvaluator
from della_bench.run.options import Options
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.search.answering import Answerer
from della_bench.spec import MergeSpec

TIES = MergeSpec.parse("base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5")


@pytest.fixture
def engine():
    made = Engine("hf", {"device": "cpu", "batch_size": 4})
    yield made
    made.close()


def weights(model):
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def test_the_next_merge_goes_into_the_running_model_and_is_the_one_a_new_model_would_have(engine):
    first = engine.load(TIES)
    before = weights(first)
    other = MergeSpec.parse(TIES, merge_method="task_arithmetic")
    second = engine.load(other)
    assert second is first
    remerged = weights(second)
    engine.close()
    fresh = weights(engine.load(other))
    assert all(remerged[name].equal(fresh[name]) for name in fresh)
    assert not all(remerged[name].equal(before[name]) for name in fresh)


def test_a_merge_that_does_not_fit_the_running_model_gets_a_new_one(engine):
    first = engine.load(TIES)
    wider = engine.load(MergeSpec.parse(TIES, dtype="float32"))
    assert wider is not first
    assert str(wider.model.dtype) == "torch.float32"


def test_digests_made_beside_the_merge_are_those_made_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path))
    inputs = Inputs(Merge(TIES))
    files = digest_files(input_files(Merge(TIES)))
    assert inputs.files == files
    assert inputs.fingerprint == fingerprint(TIES, files)


class BrokenError(Exception):
    """What no engine names."""


def fail_with(frame_holds):
    """Raise in a function that holds something, as a model's own code does when its memory is full."""
    assert frame_holds is not None
    raise BrokenError("memory is full")


def test_a_model_that_failed_while_it_was_asked_is_gone_when_that_is_told(tmp_path):
    options = Options(tmp_path, ("zoo_math",), arguments={"device": "cpu"})
    tasks = Tasks(options.benchmarks)
    evaluator = LocalEvaluator(options, tasks)
    evaluator.load(TIES, Inputs(Merge(TIES)))
    model = weakref.ref(evaluator._model.model)
    evaluator._model._model_generate = lambda *_, held=evaluator._model, **__: fail_with(held)
    gc.disable()  # when a cycle is looked for, and not by chance
    try:
        with pytest.raises(DellaBenchError, match="memory is full") as raised:
            evaluator.evaluate(tasks.benchmarks[0], TIES, tmp_path, EvalSettings(limit=2), {}, "")
        assert model() is None
        assert isinstance(raised.value.__cause__, BrokenError)
        if sys.version_info >= (3, 11):  # where it was is told all the same
            assert "in fail_with" in "".join(raised.value.__cause__.__notes__)
    finally:
        gc.enable()


def test_a_model_that_failed_while_it_was_loaded_is_gone_too(monkeypatch, tmp_path):
    alive = []

    def fail(self, *_, **__):
        alive.append(weakref.ref(self))
        self.itself = self  # a cycle, which only the collector frees
        fail_with(self)

    options = Options(tmp_path, ("zoo_math",), arguments={"device": "cpu"})
    evaluator = LocalEvaluator(options, Tasks(options.benchmarks))
    monkeypatch.setattr(DellaMergedLM, "__init__", fail)
    gc.disable()
    try:
        with pytest.raises(MergeError, match="memory is full"):
            evaluator.load(TIES, Inputs(Merge(TIES)))
        assert alive[0]() is None
    finally:
        gc.enable()


def test_an_engine_that_failed_gives_its_memory_back_before_it_is_started_anew(monkeypatch, tmp_path):
    options = Options(tmp_path, ("zoo_math",), arguments={"device": "cpu"})
    answerer = Answerer(Tasks(options.benchmarks), options, lambda *_: None)
    built: list[weakref.ref[Any]] = []
    init = DellaMergedLM.__init__

    def spy(self, *given, **options):
        assert all(each() is None for each in built)
        init(self, *given, **options)
        built.append(weakref.ref(self.model))
        if len(built) == 1:
            self._model_generate = lambda *_, held=self, **__: fail_with(held)

    monkeypatch.setattr(DellaMergedLM, "__init__", spy)
    gc.disable()
    try:
        answers = answerer.answer(TIES, {"zoo_math": (0, 1)})
    finally:
        gc.enable()
        answerer.close()
    assert len(built) == 2
    assert len(answers.samples["zoo_math"]) == 2
