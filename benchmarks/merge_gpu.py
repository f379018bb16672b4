"""Speed of merging on a GPU: tensors that lie there, ours against torch's own operations, mergekit's, and a copy.

    python benchmarks/merge_gpu.py [--sizes 374M,3B] [--experts 3,4] [--methods della,ties,...] [--json]

Makes base and experts of a Llama's shapes on the device (bf16: normal weights, deltas a hundredth of them), merges the
whole model by each method, and once more for each repetition. Bytes moved are those of base, experts and result, once
each; the copy moves a tensor of 2 GB, read and written. Torch's operations are the reference of this package
(`merge_tensor`), tensor by tensor on the device, over a share of the tensors; mergekit's are its methods, over the same
share, where mergekit is installed. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import torch
from merge import SIZES, Shape, shapes

from della_bench.merge.kernels.dispatch import merge_device_tensors
from della_bench.merge.kernels.job import Job
from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec
from della_bench.spec.tensor import TensorSpec

METHODS: dict[str, dict[str, Any]] = {
    "task_arithmetic": {},
    "dare_linear": {"density": 0.5},
    "ties": {"density": 0.5},
    "della": {"density": 0.5, "epsilon": 0.1},
    "della_linear": {"density": 0.5, "epsilon": 0.1},
}
GROUP = 2**32  # bytes that are merged together, as a merge's stream has it
SHARE = 12  # tensors that are merged by torch and mergekit

Tensors = dict[str, list[torch.Tensor]]


@dataclass(frozen=True)
class Row:
    """One method at one size: milliseconds, gigabytes (10^9) a second moved, and the rates of the others.

    on_device: the milliseconds in which the device computed; the rest it waited for the host.
    """

    size: str
    experts: int
    method: str
    milliseconds: float
    on_device: float
    gb_per_second: float
    share_of_copy: float
    share_on_device: float
    torch_gb_per_second: float | None
    mergekit_gb_per_second: float | None


def timed(action: Callable[[], Any], repeat: int) -> float:
    """Return the median seconds of an action on the device, after one that is not counted."""
    action()
    torch.cuda.synchronize()
    seconds = []
    for _ in range(repeat):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        action()
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    return statistics.median(seconds)


def busy(action: Callable[[], Any]) -> float:
    """Return the seconds in which the device worked for an action."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        action()
        torch.cuda.synchronize()
    return float(sum(event.self_device_time_total for event in profiled.key_averages())) / 1e6


def copy_rate() -> float:
    """Return GB/s of a copy on the device: bytes read plus bytes written."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.nbytes / 1e9 / timed(lambda: target.copy_(source), 10)


def make(shape: Shape, experts: int) -> Tensors:
    """Return base and experts of each tensor, on the device."""
    generator = torch.Generator("cuda").manual_seed(0)
    tensors = {}
    for name, dims in shapes(shape).items():
        base = torch.randn(dims, device="cuda", generator=generator) * 0.02
        noise = (torch.randn(dims, device="cuda", generator=generator) * 0.0002 for _ in range(experts))
        tensors[name] = [base.bfloat16(), *((base + delta).bfloat16() for delta in noise)]
    return tensors


def spec_of(method: str, experts: int) -> MergeSpec:
    """Return a method's spec; the sources' names stand for none."""
    name, more = ("della", {"elect": "none"}) if method == "della_linear" else (method, {})
    sources = {"base": "base", "experts": [f"expert{k}" for k in range(experts)]}
    return MergeSpec.parse({**sources, "merge_method": name, **METHODS[method], **more})


def groups(tensors: Tensors) -> Iterator[list[str]]:
    """Yield names of tensors that are merged together."""
    group: list[str] = []
    size = 0
    for name, sources in tensors.items():
        needed = sum(source.nbytes for source in sources) + sources[0].nbytes
        if group and size + needed > GROUP:
            yield group
            group, size = [], 0
        group.append(name)
        size += needed
    yield group


def merge_ours(plan: dict[str, TensorSpec], tensors: Tensors) -> None:
    """Merge all tensors as a merge's stream does: a group is checked after the next one was started."""
    last = None
    for group in groups(tensors):
        jobs = [Job(plan[name], name, tensors[name][0], tensors[name][1:], torch.bfloat16) for name in group]
        following = merge_device_tensors(jobs)
        if last is not None:
            assert last.first_fault() is None
        last = following
    assert last is not None
    assert last.first_fault() is None


def merge_by_torch(spec: MergeSpec, tensors: Tensors) -> None:
    """Merge by the reference, of torch's operations."""
    for name, (base, *experts) in tensors.items():
        merge_tensor(spec, name, base, experts, torch.bfloat16)


def merge_by_mergekit(method: str, tensors: Tensors) -> None:
    """Merge by mergekit's method."""
    from mergekit.merge_methods import api

    for name, sources in tensors.items():
        api.merge_tensors(sources, method, base_index=0, parameters={"weight": 1.0, **METHODS[method]}, name=name)


def size_of(tensors: Tensors) -> float:
    """Return the bytes that a merge moves, in GB."""
    return sum(sources[0].nbytes + sum(source.nbytes for source in sources) for sources in tensors.values()) / 1e9


def measure(size: str, count: int, method: str, tensors: Tensors, copy: float, options: argparse.Namespace) -> Row:
    """Time one method by ours, by torch and by mergekit."""
    spec = spec_of(method, count)
    plan = {name: spec.at(name) for name in tensors}
    seconds = timed(lambda: merge_ours(plan, tensors), options.repeat)
    rate, on_device = size_of(tensors) / seconds, busy(lambda: merge_ours(plan, tensors))
    few = dict(list(tensors.items())[:SHARE])
    by_torch = by_mergekit = None
    if not options.only_ours:
        by_torch = size_of(few) / timed(lambda: merge_by_torch(spec, few), 1)
        if find_spec("mergekit") is not None:
            by_mergekit = size_of(few) / timed(lambda: merge_by_mergekit(method, few), 1)
    device_rate = size_of(tensors) / on_device
    return Row(
        size,
        count,
        method,
        seconds * 1e3,
        on_device * 1e3,
        rate,
        rate / copy,
        device_rate / copy,
        by_torch,
        by_mergekit,
    )


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    heads = ["size", "experts", "method", "ms", "on the device", "GB/s", "of the copy", "on the device", "torch GB/s"]
    heads += ["times torch", "mergekit GB/s"]
    lines = [heads, ["---"] * len(heads)]
    for r in rows:
        line = [
            r.size,
            str(r.experts),
            r.method,
            f"{r.milliseconds:.2f}",
            f"{r.on_device:.2f}",
            f"{r.gb_per_second:.0f}",
        ]
        line += [f"{100 * share:.0f} %" for share in (r.share_of_copy, r.share_on_device)]
        by_torch, theirs = r.torch_gb_per_second, r.mergekit_gb_per_second
        line += [f"{by_torch:.0f}", f"{r.gb_per_second / by_torch:.1f}"] if by_torch else ["", ""]
        lines.append([*line, f"{theirs:.0f}" if theirs else ""])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="374M,3B", help="comma-separated")
    parser.add_argument("--experts", default="3,4", help="comma-separated")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="merges, of which the median counts")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    copy = copy_rate()
    rows = []
    for size in options.sizes.split(","):
        for count in map(int, options.experts.split(",")):
            tensors = make(SIZES[size], count)
            for method in options.methods.split(","):
                rows.append(measure(size, count, method, tensors, copy, options))
                print(rows[-1], file=sys.stderr, flush=True)
            del tensors
    device = torch.cuda.get_device_name()
    if options.json:
        facts = {"device": device, "torch": torch.__version__, "copy_gb_per_second": copy}
        print(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        print(f"{device}, torch {torch.__version__}, bf16; copy {copy:.0f} GB/s\n{table(rows)}")


if __name__ == "__main__":
    main()
