"""What can be told of the engine's parts without starting one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.multiprocessing.spawn import spawn

from della_bench.errors import CheckpointError, MergeError, SpecError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec

SPEC: dict[str, Any] = {"base": "zoo:base", "experts": "zoo:math+zoo:code", "merge_method": "task_arithmetic"}


def test_without_vllm_the_error_names_the_extra():
    code = (
        "import importlib.metadata, importlib.util, sys\n"
        "sys.modules['vllm'] = None\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'vllm' else find(name, *rest)\n"
        "from della_bench.models.hf import DellaMergedLM\n"
        "DellaMergedLM(engine='vllm', base='zoo:base', experts='zoo:math', merge_method='linear')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SpecError: engine=vllm: vLLM is not installed: pip install 'della-bench[vllm]'" in done.stderr


pytestmark = pytest.mark.vllm


@given(st.lists(st.integers(0, 500)), st.integers(1, 4))
def test_every_tensor_has_one_worker_and_windows_stay_small(sizes, workers):
    from della_bench.models.vllm_engine.sharing import windows

    found = windows(sizes, workers, least=100)
    assert sum(map(len, found)) == len(sizes)
    start = 0
    for owners in found:
        held = sizes[start : start + len(owners)]
        assert set(owners) <= set(range(workers))
        assert sum(held) <= max(100, *sizes, 0) * workers
        loads = [sum(size for size, owner in zip(held, owners, strict=True) if owner == w) for w in range(workers)]
        assert max(loads) - min(loads) <= max(held, default=0)
        start += len(owners)


FAILS = ("", "merging", "using")


def _worker(rank: int, folder: str) -> None:
    """One of two processes that merge the zoo together, once for each of FAILS."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for fails in FAILS:
        _merge_together(rank, folder, fails)
    dist.destroy_process_group()


def _merge_together(rank: int, folder: str, fails: str) -> None:
    """Write what this process got, or the error it saw."""
    from della_bench.models.vllm_engine.sharing import Exchange
    from della_bench.models.vllm_engine.versions import TensorParallel

    group = TensorParallel(rank, [0, 1], dist.group.WORLD, dist.group.WORLD)
    merge = Merge(MergeSpec.parse(SPEC))
    asked: list[str] = []

    def merged(names: list[str]) -> Any:
        for name, tensor in merge.stream("cpu", names):
            if fails == "merging" and rank == 1 and len(asked) > 3:
                raise MergeError("this one broke")
            asked.append(name)
            yield name, tensor

    exchange = Exchange(group, torch.device("cpu"))
    outlines = [(name, merge.info(name).shape, torch.bfloat16) for name in merge.names]
    try:
        got = {}
        for name, tensor in exchange.stream(outlines, merged):
            if fails == "using" and rank == 1 and name == merge.names[-2]:
                raise MergeError("this one broke")
            got[name] = tensor
        torch.save({"got": got, "asked": asked}, f"{folder}/{rank}{fails}")
    except MergeError as error:
        exchange.fail(error)
        torch.save({"error": str(error)}, f"{folder}/{rank}{fails}")


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> Path:
    """The folder of what two processes have written, which import much before they begin."""
    folder = tmp_path_factory.mktemp("two")
    spawn(_worker, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("fails", FAILS)
def test_two_workers_merge_each_tensor_once_and_both_learn_of_a_failure(two_workers, fails):
    seen = [torch.load(two_workers / f"{rank}{fails}") for rank in (0, 1)]
    if fails:
        assert [one["error"] for one in seen] == ["worker 1 of 2 failed: MergeError: this one broke", "this one broke"]
        return
    merge = Merge(MergeSpec.parse(SPEC))
    assert sorted(seen[0]["asked"] + seen[1]["asked"]) == sorted(merge.names)
    assert min(len(one["asked"]) for one in seen) > 0
    for one in seen:
        assert list(one["got"]) == merge.names
        assert all(torch.equal(tensor, merge.tensor(name)) for name, tensor in one["got"].items())


def test_settings_survive_the_way_through_json():
    from della_bench.models.vllm_engine.settings import Settings

    made = Settings(MergeSpec.parse({**SPEC, "weights": "0.5+1.5", "name": "a,b"}), "cpu", False, "/tmp/report")
    assert Settings.read(json.loads(json.dumps(made.as_config()))) == made
    assert Settings.read({"spec": str(made.spec)}) == Settings(made.spec)


@pytest.mark.parametrize("config", [{}, None, {"resident": "cpu"}, {"spec": ""}])
def test_the_load_format_without_a_spec_is_an_error_that_says_where_it_goes(config):
    from vllm.config.load import LoadConfig

    from della_bench.models.vllm_engine.loader import MergeLoader

    with pytest.raises(SpecError, match="load_format=della_merged needs a spec: model_loader_extra_config"):
        MergeLoader(LoadConfig(load_format="della_merged", model_loader_extra_config=config or {}))


def test_all_faults_of_the_settings_are_told_at_once():
    from della_bench.models.vllm_engine.settings import Settings

    with pytest.raises(SpecError) as caught:
        Settings.read({"spec": {**SPEC, "lambda": "x"}, "residnt": "cpu", "resident": "ram"})
    text = str(caught.value)
    assert all(part in text for part in ("lambda", "'residnt'; did you mean 'resident'", "resident='ram'"))


@pytest.mark.parametrize(
    "error",
    [SpecError(["a", "b"]), CheckpointError("c"), MergeError("NaN", exit_code=2), MergeError("d"), KeyError("e")],
)
def test_a_failure_crosses_processes_with_its_kind_and_exit_code(error):
    from della_bench.models.vllm_engine.settings import as_error, failure_of

    back = as_error(json.loads(json.dumps(failure_of(error))))
    assert str(error) in str(back)
    assert back.exit_code == getattr(error, "exit_code", 1)
    assert isinstance(back, type(error) if not isinstance(error, KeyError) else MergeError)


def test_registering_the_loader_again_changes_nothing_and_warns_of_nothing(caplog):
    from vllm.config.load import LoadConfig
    from vllm.model_executor.model_loader import get_model_loader

    from della_bench.models.vllm_engine.loader import MergeLoader
    from della_bench.models.vllm_engine.plugin import register

    register()
    caplog.clear()
    register()
    config = LoadConfig(load_format="della_merged", model_loader_extra_config={"spec": SPEC})
    assert type(get_model_loader(config)) is MergeLoader
    assert caplog.records == []


class Model(torch.nn.Module):
    packed_modules_mapping = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "out": ["out"]}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Module()])
        self.layers[0].qkv_proj = torch.nn.Linear(2, 6, bias=False)
        self.norm = torch.nn.LayerNorm(2, bias=False)


@pytest.mark.parametrize(
    ("loaded", "streamed", "missing"),
    [
        ("norm qkv", "norm q k v", []),
        ("qkv", "q k v", ["norm.weight"]),
        ("norm qkv", "norm q v", ["layers.0.qkv_proj.weight (k_proj)"]),
        ("norm qkv", "norm qkv", []),
        ("norm", "norm", ["layers.0.qkv_proj.weight"]),
    ],
)
def test_a_parameter_that_no_tensor_filled_in_whole_or_in_part_is_found(loaded, streamed, missing):
    from della_bench.models.vllm_engine.loader import unfilled

    def name(part: str) -> str:
        return "norm.weight" if part == "norm" else f"layers.0.{part}_proj.weight"

    assert unfilled(Model(), map(name, loaded.split()), [f"model.{name(p)}" for p in streamed.split()]) == missing


@pytest.mark.parametrize("untied", [True, False])
def test_a_head_that_the_file_repeats_goes_where_vllm_expects_it_as_the_embedding(tmp_path, untied):
    from safetensors.torch import load_file, save_file

    from della_bench.models.vllm_engine.loader import _with_head
    from tests import tiny

    folder = tiny.save(tiny.gpt2(), tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}, folder / "model.safetensors")
    expert = tiny.save(tiny.perturbed(tiny.gpt2(), 1), tmp_path / "expert")
    merge = Merge(MergeSpec.parse({**SPEC, "base": str(folder), "experts": str(expert)}))
    config: Any = SimpleNamespace(word_embeddings_untied_by_checkpoint=untied)
    found = dict(_with_head(merge.stream(), merge, config))
    assert found.keys() - set(merge.names) == ({"lm_head.weight"} if untied else set())
    if untied:
        assert torch.equal(found["lm_head.weight"], merge.tensor("transformer.wte.weight"))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"load_format": "auto"}, "load_format='auto': not on a merge: a merge is loaded by load_format=della_merged"),
        ({"model": "gpt2"}, "model='gpt2': not on a merge"),
        ({"lora_local_path": "x"}, "lora_local_path='x': not on a merge: an adapter is an expert"),
        ({"max_length": 9, "max_model_len": 9}, "two names of one thing"),
        ({"tensor_paralel_size": 2}, "did you mean 'tensor_parallel_size'"),
        ({"data_parallel_size": 2}, "data_parallel_size=2: lm-eval gives each of the 2 engines 1 GPU"),
        ({"resident": "gpu"}, "resident='gpu': the merge is made on the CPU"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for what is wrong without a GPU")
def test_arguments_that_contradict_the_merge_or_the_machine_are_refused_before_an_engine_starts(more, reason):
    from della_bench.models.vllm import DellaMergedVLLM

    with pytest.raises(SpecError, match=reason):
        DellaMergedVLLM(**SPEC, **more)


def test_an_architecture_that_vllm_lacks_is_refused_before_an_engine_starts(tmp_path):
    import shutil

    from della_bench import zoo
    from della_bench.models.vllm import DellaMergedVLLM

    folder = shutil.copytree(zoo.folder("base"), tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["OwnForCausalLM"]}))
    with pytest.raises(SpecError, match=r"vLLM .* has no OwnForCausalLM .*use engine=hf"):
        DellaMergedVLLM(**{**SPEC, "base": str(folder)})


def test_an_expert_of_another_shape_is_refused_before_an_engine_starts(family):
    from della_bench.models.vllm import DellaMergedVLLM

    with pytest.raises(CheckpointError, match="do not fit together"):
        DellaMergedVLLM(**{**SPEC, "experts": str(family["a"])})


def test_a_list_of_plugins_that_leaves_ours_out_is_told(monkeypatch):
    from della_bench.models.vllm import DellaMergedVLLM

    monkeypatch.setenv("VLLM_PLUGINS", "other")
    with pytest.raises(SpecError, match="VLLM_PLUGINS is set and leaves out della_bench"):
        DellaMergedVLLM(**SPEC)


class Replica:
    """In the place of vLLM's engine in an actor of Ray: remembers what each was told."""

    told: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, **arguments: Any) -> None:
        Replica.told.append(arguments)

    def generate(self, prompts: list[Any], **_: Any) -> list[Any]:
        return [SimpleNamespace(outputs=[SimpleNamespace(text=f"answer to {len(prompts)}")]) for _ in prompts]


def test_replicas_merge_anew_and_a_remerge_replaces_what_they_are_told(monkeypatch):
    from lm_eval.models import vllm_causallms

    from della_bench.models.vllm import DellaMergedVLLM
    from della_bench.models.vllm_engine.settings import Settings
    from tests.models.lm import ask

    ray: Any = ModuleType("ray")
    ray.__spec__ = SimpleNamespace(name="ray")
    ray.remote = lambda **_: lambda function: SimpleNamespace(remote=function)
    ray.get, ray.shutdown = lambda found: found, lambda: None
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(vllm_causallms, "LLM", Replica)
    Replica.told.clear()
    lm: Any = DellaMergedVLLM(**SPEC, data_parallel_size=2, max_model_len=512)
    assert Replica.told == []
    for spec in (SPEC, {**SPEC, "lambda": 0.5}):
        lm.remerge(spec)
        Replica.told.clear()
        assert sorted(ask(lm, "One", "Two", "Three")) == ["answer to 1", "answer to 2", "answer to 2"]
        assert len(Replica.told) == 2
        for arguments in Replica.told:
            assert arguments["load_format"] == "della_merged"
            assert Settings.read(arguments["model_loader_extra_config"]).spec == MergeSpec.parse(spec)
    assert lm.spec.lambda_ == 0.5
