"""One engine for all of this file: it takes half a minute to start."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.tasks import TaskManager
from safetensors.torch import load_file, save_file

from della_bench.errors import MergeError, SpecError
from della_bench.models.hf import DellaMergedLM
from della_bench.resources import folder
from della_bench.spec import MergeSpec
from tests.models.lm import ask
from tests.models.parity import digests, expected
from tests.waiting import until

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SPEC: dict[str, Any] = {
    "base": "zoo:base", "experts": "zoo:math+zoo:code", "merge_method": "della", "drop_rate": 0.3, "window_size": 0.14,
    "dtype": "float32",
}  # fmt: skip
PROMPTS = ["Tom has 3 apples and buys 4 more.", "def f(x):", "Hello, how are you", "Write a program that adds 2 and 3."]
# From the base itself to far beyond any sensible merge: answers differ widely.
LAMBDAS = (0, 1, 3, -2, 1.1)


class Watch(threading.Thread):
    """Notes every file below a folder that is large enough to hold the zoo's weights, were it there but briefly."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.seen, self.ended = folder, set[Path](), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            for place, _, files in os.walk(self.folder):
                for path in (Path(place) / name for name in files):
                    with contextlib.suppress(OSError):  # gone again
                        if path.is_file() and path.stat().st_size > 500_000:
                            self.seen.add(path)


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Send all that an engine may write into one folder, and watch it from before the engine's start."""
    made = Watch(tmp_path_factory.mktemp("written"))
    seen_before = Path(
        os.environ["VLLM_CACHE_ROOT"], "modelinfos"
    )  # of classes of models, for which it takes a process
    if seen_before.is_dir():
        shutil.copytree(seen_before, made.folder / "modelinfos")
    made.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
            patch.setenv(name, str(made.folder))
        patch.setattr(tempfile, "tempdir", str(made.folder))
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("TORCH_COMPILE_DISABLE", "1")  # else the first log-likelihood starts a C++ compiler
        patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # the tests send functions to the workers
        patch.chdir(made.folder)
        yield made
    made.ended.set()


@pytest.fixture(scope="module")
def lm(watch: Watch) -> Iterator[Any]:
    options = {"enforce_eager": True, "max_model_len": 512, "gpu_memory_utilization": 0.2, "engine_seed": 7}
    made: Any = DellaMergedLM(engine="vllm", **SPEC, **options, enable_prefix_caching=True)
    yield made
    made.model.llm_engine.engine_core.shutdown()


@pytest.fixture(scope="module")
def hf() -> DellaMergedLM:
    return DellaMergedLM(**SPEC)


@pytest.fixture(autouse=True)
def same_merge(lm: Any, hf: DellaMergedLM) -> None:
    for model in (lm, hf):
        if model._unusable or model.spec != MergeSpec.parse(SPEC):
            model.remerge(SPEC)


def test_the_short_name_and_the_argument_make_the_same_model_type(lm):
    from della_bench.models.vllm import DellaMergedVLLM

    assert type(lm) is DellaMergedVLLM
    assert lm.get_model_info()["della_bench"]["engine"] == "vllm"
    assert lm.model.llm_engine.vllm_config.model_config.seed == 7


@pytest.mark.parametrize("lambda_", LAMBDAS)
def test_one_engine_answers_as_transformers_does_merge_after_merge(lm, hf, lambda_):
    for model in (lm, hf):
        model.remerge({**SPEC, "lambda": lambda_})
    assert ask(lm, *PROMPTS, tokens=24) == ask(hf, *PROMPTS, tokens=24)
    pairs = [Instance("loglikelihood", {}, (prompt, " yes"), i) for i, prompt in enumerate(PROMPTS)]
    for ours, theirs in zip(lm.loglikelihood(pairs), hf.loglikelihood(pairs), strict=True):
        assert ours[0] == pytest.approx(theirs[0], abs=1e-3)


def test_parameters_equal_those_in_transformers_bit_for_bit(lm, hf):
    (found,) = lm.model.apply_model(digests)
    assert found == expected(hf.model, 0, 1)
    for model in (lm, hf):
        model.remerge({**SPEC, "merge_method": "ties", "density": 0.4, "drop_rate": None, "window_size": None})
    (after,) = lm.model.apply_model(digests)
    assert after == expected(hf.model, 0, 1)
    assert not set(after.values()) & set(found.values())


@pytest.mark.parametrize("place", ["base", "experts"])
def test_a_merge_of_merges_is_the_one_that_transformers_has(lm, hf, place):
    stage = {**SPEC, "experts": "zoo:math+zoo:chat"}
    for model in (lm, hf):
        model.remerge({**SPEC, "base": stage} if place == "base" else {**SPEC, "experts": [stage, "zoo:code"]})
    (found,) = lm.model.apply_model(digests)
    assert found == expected(hf.model, 0, 1)
    assert ask(lm, *PROMPTS) == ask(hf, *PROMPTS)


def test_prompts_answered_before_are_answered_by_the_new_merge(lm):
    # Longer than a block of the cache, so that the engine would find it there.
    long = "Tom has 3 apples. " * 20
    before = ask(lm, long, *PROMPTS, tokens=24)
    lm.remerge({**SPEC, "lambda": 3})
    changed = ask(lm, long, *PROMPTS, tokens=24)
    assert changed[0] != before[0]
    lm.remerge(SPEC)
    assert ask(lm, long, *PROMPTS, tokens=24) == before


def test_name_info_and_fingerprint_follow_a_remerge(lm):
    before = lm.fingerprint
    lm.remerge({**SPEC, "lambda": 1.5, "name": "bolder"})
    info = lm.get_model_info()["della_bench"]
    assert (info["name"], MergeSpec.parse(info["spec"])) == ("bolder", lm.spec)
    assert lm.fingerprint == info["fingerprint"] != before
    lm.remerge(SPEC)
    assert lm.fingerprint == before


def test_the_response_cache_keeps_merges_of_one_engine_apart(lm, tmp_path):
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    first, told = ask(cached, *PROMPTS), lm.fingerprint
    lm.remerge({**SPEC, "lambda": 3})
    second = ask(cached, *PROMPTS)
    assert second == ask(lm, *PROMPTS) != first
    assert {key.partition(":")[0] for key in cached.dbdict} == {told, lm.fingerprint}


def test_a_spec_that_does_not_fit_leaves_the_old_merge_in_place(lm, tmp_path):
    before, told = ask(lm, *PROMPTS), lm.fingerprint
    for wrong, reason in [
        ({**SPEC, "drop_rate": 1.2}, "drop_rate"),
        ({**SPEC, "dtype": "bfloat16"}, "dtype=bfloat16: the engine runs in float32"),
        ({**SPEC, "base": "zoo:math"}, "base=zoo:math: the engine runs base=zoo:base"),
        ({**SPEC, "experts": "zoo:math", "tokenizer": "zoo:chat"}, "tokenizer=zoo:chat"),
    ]:
        with pytest.raises(SpecError, match=reason):
            lm.remerge(wrong)
    assert (ask(lm, *PROMPTS), lm.fingerprint) == (before, told)


def test_a_failure_while_loading_leaves_the_model_unusable_until_the_next_good_remerge(lm, tmp_path):
    from della_bench import zoo

    before = ask(lm, *PROMPTS)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in zoo.folder("math").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    # In the middle of a fused parameter, half of which the new merge has then filled.
    tensors["model.layers.2.self_attn.k_proj.weight"][0, 0] = torch.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MergeError, match=r"k_proj\.weight holds NaN") as caught:
        lm.remerge({**SPEC, "experts": f"{broken}"})
    assert caught.value.exit_code == 2
    with pytest.raises(MergeError, match=r"no merge is loaded: .*k_proj"):
        ask(lm, "Hello")
    with pytest.raises(MergeError, match="no merge is loaded"):
        _ = lm.fingerprint
    lm.remerge(SPEC)
    assert ask(lm, *PROMPTS) == before


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_where_the_sources_stay_changes_no_bit(lm, place):
    from della_bench.models.vllm_engine.loader import bytes_kept

    wanted = lm.model.apply_model(digests)
    lm._resident = place
    try:
        lm.remerge({**SPEC, "lambda": 2})
        lm.remerge(SPEC)
        (kept,) = lm.model.apply_model(bytes_kept)
    finally:
        lm._resident = None
    assert lm.model.apply_model(digests) == wanted
    assert (kept > 5_000_000) == (place == "cpu")


def test_an_evaluation_gives_the_score_that_transformers_gives(lm, hf, monkeypatch):
    # Else lm-eval lists all its tasks and asks pip and the like about the machine, which takes longer than the answers.
    manager = TaskManager(include_path=str(folder("tasks")), include_defaults=False)
    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
    scores = []
    for model in (lm, hf):
        found = lm_eval.simple_evaluate(model, tasks=["zoo_math"], limit=40, bootstrap_iters=0, task_manager=manager)
        assert found["config"]["della_bench"]["spec"] == str(MergeSpec.parse(SPEC))
        scores.append(found["results"]["zoo_math"]["exact_match,answer-is"])
    assert scores[0] == scores[1] > 0


def test_no_file_that_holds_weights_is_written_at_any_time(lm, watch):
    ask(lm, *PROMPTS)
    lm.remerge({**SPEC, "lambda": 1.5})
    ask(lm, *PROMPTS)
    assert watch.seen == set()
    (watch.folder / "weights").write_bytes(bytes(600_000))
    until(lambda: watch.seen)
    assert watch.seen == {watch.folder / "weights"}
