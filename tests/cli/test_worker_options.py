from __future__ import annotations

import pytest

from della_bench.cli.worker_options import wanted_workers
from della_bench.errors import Faults, UsageError
from della_bench.workers import session
from della_bench.workers.wanted import Wanted


@pytest.fixture(autouse=True)
def with_ray(monkeypatch):
    monkeypatch.setattr(session, "find_spec", lambda name: object())


def read(workers=None, address=None, gpus=None, cpus=None, engine="hf", **arguments):
    faults = Faults()
    made = wanted_workers(workers, address, gpus, cpus, engine=engine, arguments=arguments, faults=faults)
    faults.raise_them()
    return made


def test_without_the_options_this_process_works_alone():
    assert read(batch_size=8) == (None, {"batch_size": 8})


def test_vllms_tensor_parallelism_and_a_workers_gpus_follow_from_each_other():
    split = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}
    assert read(4, gpus=2, engine="vllm") == (Wanted(4, gpus=2), split)
    assert read(4, engine="vllm", tensor_parallel_size=2) == (Wanted(4, gpus=2), split)
    assert read(address="auto", engine="vllm") == (Wanted(address="auto"), {})


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"gpus": 2}, "--gpus-per-worker 2: of what workers?"),
        ({"cpus": 2}, "--cpus-per-worker 2: of what workers?"),
        ({"workers": 2, "device": "cuda:1"}, "a worker sees its own GPUs alone"),
        ({"workers": 2, "gpus": 1, "device": "cpu"}, "contradict each other"),
        ({"workers": 2, "engine": "vllm", "data_parallel_size": 2}, "workers are the replicas"),
        ({"workers": 2, "engine": "vllm", "gpus": 4, "tensor_parallel_size": 2}, "divide a model over 2 GPU"),
        ({"workers": 2, "gpus": 2}, "transformers takes one GPU"),
    ],
)
def test_what_contradicts_is_told(options, fault):
    with pytest.raises(UsageError, match=fault.replace("?", r"\?")):
        read(**options)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--workers: Ray is not installed: pip install 'della-bench\[ray\]'"):
        read(2)
