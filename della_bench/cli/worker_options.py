"""The options that say who evaluates, of the commands that can work with several workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from della_bench.errors import DellaBenchError, UsageError

if TYPE_CHECKING:
    from della_bench.errors import Faults
    from della_bench.workers.wanted import Wanted

__all__ = ["CpusPerWorker", "GpusPerWorker", "RayAddress", "Workers", "told_with_the_cluster", "wanted_workers"]

Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Evaluate with N processes at once, each with its own engine."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="With workers of a Ray cluster (host:port, ray://host:port, auto): N, or as many as fit.",
    ),
]
GpusPerWorker = Annotated[
    int | None, typer.Option("--gpus-per-worker", min=0, metavar="T", help="GPUs of a worker; tensor parallel in vLLM.")
]
CpusPerWorker = Annotated[int | None, typer.Option("--cpus-per-worker", min=1, metavar="C", help="CPUs of a worker.")]


def wanted_workers(
    workers: int | None,
    address: str | None,
    gpus: int | None,
    cpus: int | None,
    *,
    engine: str,
    arguments: Mapping[str, Any],
    faults: Faults,
) -> tuple[Wanted | None, dict[str, Any]]:
    """Return the workers that are asked for, None where this process works alone, and the engine's arguments for them.

    vLLM's tensor parallelism and a worker's GPUs follow from each other where one of them is given. What contradicts is
    added to the faults.
    """
    arguments = dict(arguments)
    if workers is None and address is None:
        for option, value in (("--gpus-per-worker", gpus), ("--cpus-per-worker", cpus)):
            if value is not None:
                faults.add(f"{option} {value}: of what workers? --workers N or --ray ADDRESS is needed, too")
        return None, arguments
    from della_bench.workers.session import require_ray
    from della_bench.workers.wanted import Wanted

    faults.of(lambda: require_ray("--workers" if address is None else "--ray"), None)
    device = str(arguments.get("device") or "")
    if ":" in device and not device.endswith(":0"):
        faults.add(f"--device {device}: a worker sees its own GPUs alone, the first as cuda:0; leave --device out")
    if device == "cpu" and gpus:
        faults.add(f"--gpus-per-worker {gpus} and --device cpu contradict each other")
    if int(arguments.get("data_parallel_size") or 1) > 1:
        faults.add(
            f"data_parallel_size={arguments['data_parallel_size']}: workers are the replicas; give --workers alone"
        )
    if engine == "vllm":
        split = int(arguments.get("tensor_parallel_size") or 0) * int(arguments.get("pipeline_parallel_size") or 1)
        if split and gpus is not None and gpus != split:
            faults.add(f"--gpus-per-worker {gpus}: the engine's arguments divide a model over {split} GPU(s)")
        if gpus is not None and gpus > 1 and not split:
            arguments["tensor_parallel_size"] = gpus
        gpus = split if split and gpus is None else gpus
        if gpus is not None and gpus > 1:
            # Inside a worker vLLM would find Ray, and ask it for GPUs that the worker holds itself.
            arguments.setdefault("distributed_executor_backend", "mp")
    elif gpus is not None and gpus > 1 and not (arguments.get("parallelize") or arguments.get("device_map")):
        faults.add(
            f"--gpus-per-worker {gpus}: transformers takes one GPU, unless --model-args parallelize=True spreads a "
            "model over several"
        )
    return Wanted(workers, address, gpus, cpus), arguments


@contextmanager
def told_with_the_cluster(wanted: Wanted | None) -> Iterator[None]:
    """Where what is done here raises what is wrong, look for the cluster, too, so that all is told at once.

    Else it is looked for when it is needed: there may be nothing left to do.
    """
    try:
        yield
    except DellaBenchError as error:
        if wanted is None or wanted.address is None:
            raise
        from della_bench.workers.session import check_address

        try:
            check_address(wanted.address)
        except UsageError as other:
            lines = dict.fromkeys([*str(error).splitlines(), *str(other).splitlines()])
            raise UsageError("\n".join(lines), exit_code=max(error.exit_code, other.exit_code)) from None
        raise
