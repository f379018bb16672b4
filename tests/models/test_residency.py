from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from della_bench.checkpoint import Checkpoint, HostTensor
from della_bench.errors import SpecError
from della_bench.merge import stream
from della_bench.merge.fingerprint import input_files
from della_bench.merge.stream import Merge
from della_bench.models import residency
from della_bench.models.hf import DellaMergedLM
from della_bench.models.residency import Residency, choose_place
from della_bench.spec import MergeSpec
from tests import tiny
from tests.models.lm import keys


def merge(family: dict, *names: str, **others: Any) -> Merge:
    return Merge(MergeSpec.parse(keys(family, *names, **others)))


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The tensors that are read from files, in order."""
    seen: list[str] = []
    original = Checkpoint.tensor

    def tensor(self: Checkpoint, name: str) -> HostTensor:
        seen.append(name)
        return original(self, name)

    monkeypatch.setattr(Checkpoint, "tensor", tensor)
    return seen


def test_sources_in_memory_are_read_once_however_often_they_are_merged(family, reads):
    kept = Residency("cpu", "cpu")
    first = dict(kept.attach(merge(family, "a", "b")).stream())
    assert len(reads) == 3 * len(first)
    reads.clear()
    again = dict(kept.attach(merge(family, "a", "b", lambda_factor=0.5)).stream())
    assert reads == []
    wanted = dict(merge(family, "a", "b", lambda_factor=0.5).stream())
    assert all(torch.equal(again[name], tensor) for name, tensor in wanted.items())


def test_another_expert_is_read_and_one_that_is_no_longer_used_is_forgotten(family, reads):
    kept = Residency("cpu", "cpu")
    count = len(dict(kept.attach(merge(family, "a", "b")).stream()))
    full = kept.bytes_kept
    reads.clear()
    dict(kept.attach(merge(family, "a", "c")).stream())
    assert len(reads) == count
    assert kept.bytes_kept == full
    dict(kept.attach(merge(family, "a")).stream())
    assert kept.bytes_kept == full * 2 // 3


def test_merges_as_sources_are_told_apart_by_which_model_stands_where(family):
    def of_merges(*orders: str) -> Merge:
        inner = [
            {"base": str(family["base"]), "experts": [str(family[name]) for name in order], "weights": [1.0, 0.25],
             "merge_method": "task_arithmetic"}
            for order in orders
        ]  # fmt: skip
        keys = {"base": str(family["base"]), "experts": inner, "merge_method": "task_arithmetic"}
        return Merge(MergeSpec.parse(keys))

    kept = Residency("cpu", "cpu")
    for orders in (["ab"], ["ba"], ["ab", "ba"]):
        found, wanted = dict(kept.attach(of_merges(*orders)).stream()), dict(of_merges(*orders).stream())
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items()), orders


def test_a_base_that_is_another_merge_has_its_experts_read_once(family, reads):
    def over(weight: float) -> Merge:
        stage = {"base": str(family["base"]), "experts": [str(family["a"])], "weights": weight,
                 "merge_method": "task_arithmetic"}  # fmt: skip
        keys = {"base": stage, "experts": [str(family["b"])], "merge_method": "task_arithmetic"}
        return Merge(MergeSpec.parse(keys))

    kept = Residency("cpu", "cpu")
    count = len(dict(kept.attach(over(1.0)).stream()))
    reads.clear()
    found, wanted = dict(kept.attach(over(0.5)).stream()), dict(over(0.5).stream())
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert len(reads) == 2 * count + 3 * count  # the stage's two sources for each, the expert for what is not kept


def test_an_expert_trained_again_in_the_same_folder_is_read_again(family, tmp_path):
    def retrained(seed: int) -> Merge:
        expert = tiny.save(tiny.perturbed(tiny.llama(0, dtype=torch.bfloat16), seed), tmp_path / "expert")
        return merge({**family, "expert": expert}, "expert")

    kept = Residency("cpu", "cpu")
    first = dict(kept.attach(retrained(1)).stream())
    second = dict(kept.attach(retrained(2)).stream())
    assert not torch.equal(first["lm_head.weight"], second["lm_head.weight"])
    assert torch.equal(second["lm_head.weight"], retrained(2).tensor("lm_head.weight"))


def test_an_adapter_over_a_base_trained_again_is_made_again(family, tmp_path):
    adapter, base = tmp_path / "adapter", tmp_path / "base"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {f"{module}.lora_A.weight": torch.ones(1, 32), f"{module}.lora_B.weight": torch.ones(32, 1)}
    save_file(factors, adapter / "adapter_model.safetensors")

    def over(seed: int) -> Merge:
        tiny.save(tiny.llama(seed, dtype=torch.bfloat16), base)
        return merge({"base": base, "adapter": adapter, "a": family["a"]}, "adapter", "a")

    kept = Residency("cpu", "cpu")
    for seed in (1, 2):
        merged = dict(kept.attach(over(seed)).stream())
        assert all(torch.equal(merged[name], tensor) for name, tensor in over(seed).stream())


@pytest.mark.parametrize("place", ["disk", "cpu"])
def test_the_way_of_tensors_to_a_device_gives_the_same_bits(family, monkeypatch, place):
    """What a GPU takes, with the CPU as the device: sources are read, kept and moved in the same way."""
    wanted = dict(merge(family, "a", "b").stream())
    monkeypatch.setattr(stream, "is_cpu", lambda _: False)
    kept = Residency(place, "cpu")
    for _ in range(2):
        merged = dict(kept.attach(merge(family, "a", "b")).stream())
        assert all(torch.equal(merged[name], tensor) for name, tensor in wanted.items())


def test_on_disk_nothing_is_kept(family):
    kept = Residency("disk", "cpu")
    dict(kept.attach(merge(family, "a")).stream())
    assert kept.bytes_kept == 0


def test_files_and_labels_are_those_of_the_sources(family):
    plain, attached = merge(family, "a", "b"), Residency("cpu", "cpu").attach(merge(family, "a", "b"))
    assert input_files(attached) == input_files(plain)
    assert attached.base.label == plain.base.label
    assert attached.names == plain.names


def test_a_place_that_is_none_and_a_gpu_that_is_not_there_are_refused(family):
    with pytest.raises(SpecError, match=r"resident='ram': not a place.*disk, cpu, gpu"):
        DellaMergedLM(**keys(family, "a"), resident="ram")
    with pytest.raises(SpecError, match="the merge is made on the CPU"):
        DellaMergedLM(**keys(family, "a"), resident="gpu", device="cpu")


@pytest.mark.parametrize(
    ("free_device", "free_host", "device", "place"),
    [(40, 1, "cuda", "gpu"), (39, 20, "cuda", "cpu"), (39, 19, "cuda", "disk"), (0, 100, "cpu", "disk")],
)
def test_free_memory_decides_and_one_line_of_the_log_says_so(
    monkeypatch, caplog, free_device, free_host, device, place
):
    monkeypatch.setattr(residency, "_free_host_memory", lambda: free_host * 10**9)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_device * 10**9, 80 * 10**9))
    with caplog.at_level("INFO", "della_bench"):
        assert choose_place(10 * 10**9, device) == place
    (line,) = caplog.messages
    assert line.startswith(f"resident={place}: the sources take 10.0 GB")


@pytest.mark.gpu
@pytest.mark.parametrize("place", ["cpu", "gpu"])
def test_where_the_sources_lie_changes_no_bit_on_a_gpu(family, place):
    kept = Residency(place, "cuda")
    wanted = dict(merge(family, "a", "b").stream("cuda"))
    for _ in range(2):
        found = dict(kept.attach(merge(family, "a", "b")).stream("cuda"))
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
