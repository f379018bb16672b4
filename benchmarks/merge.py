"""Speed and memory of merging: ours against mergekit, and against the machine's copy bandwidth.

    python benchmarks/merge.py [--methods della,ties,...] [--repeat N] [--mergekit PATH] [--json]

Makes synthetic checkpoints once (a Llama shape; default 357 M parameters, three experts, bf16), then runs each method
in turn as a whole process, ours (`della-bench merge`) and mergekit's (`mergekit-yaml`, if found), both writing a
safetensors folder, sources in the page cache. Seconds are of the wall clock, the median of `--repeat` rounds in which
the programs take turns; memory is the peak resident set, which holds mapped file pages too. Before that, each program
merges a small model by each method, untimed: the first merge after an installation compiles our loops.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

METHODS = {
    "della": {"density": 0.5, "epsilon": 0.1},
    "ties": {"density": 0.5},
    "dare_linear": {"density": 0.5},
    "task_arithmetic": {},
}


@dataclass(frozen=True)
class Shape:
    """A Llama's dimensions."""

    hidden: int = 1024
    intermediate: int = 2816
    layers: int = 24
    vocabulary: int = 32_000
    heads: int = 16


SIZES = {
    "374M": Shape(),
    "1.1B": Shape(hidden=2048, intermediate=5632, layers=19, heads=32),
    "3B": Shape(hidden=3072, intermediate=8192, layers=26, heads=24),
    "9B": Shape(hidden=4096, intermediate=14_336, layers=32, vocabulary=128_256, heads=32),
}


@dataclass(frozen=True)
class Row:
    """One method: seconds, peak memory in GB (10^9 bytes), bytes read and written a second against the copy's."""

    method: str
    seconds: float
    memory: float
    gb_per_second: float
    share_of_copy: float
    mergekit_seconds: float | None
    mergekit_memory: float | None

    @property
    def ratio(self) -> float | None:
        """How many times mergekit's time."""
        return self.mergekit_seconds / self.seconds if self.mergekit_seconds else None


def make_checkpoints(root: Path, shape: Shape, experts: int, device: str = "cpu") -> None:
    """Write base and experts, unless they are there: weights of a normal distribution, deltas a hundredth of them.

    device: where the numbers are drawn, which decides what they are.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        vocab_size=shape.vocabulary,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    for index in range(experts + 1):
        folder = root / ("base" if index == 0 else f"expert{index}")
        if (folder / "model.safetensors").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(folder)
        values, noise = (torch.Generator(device).manual_seed(seed) for seed in (0, index))
        tensors = {}
        for name, dims in shapes(shape).items():
            weight = torch.randn(dims, generator=values, device=device) * 0.02
            if index:
                weight += torch.randn(dims, generator=noise, device=device) * 0.0002
            tensors[name] = weight.to(torch.bfloat16).cpu()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a model's tensors."""
    h, i = shape.hidden, shape.intermediate
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, h)}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        found |= {prefix + f"self_attn.{p}_proj.weight": (h, h) for p in "qkvo"}
        found |= {prefix + f"mlp.{p}_proj.weight": (i, h) for p in ("gate", "up")}
        found |= {prefix + "mlp.down_proj.weight": (h, i)}
        found |= {prefix + f"{p}_layernorm.weight": (h,) for p in ("input", "post_attention")}
    return found | {"model.norm.weight": (h,), "lm_head.weight": (shape.vocabulary, h)}


def copy_bandwidth(gigabytes: float = 0.5) -> float:
    """Return GB/s of the best of five copies in memory by torch's threads: bytes read plus bytes written."""
    import torch

    source = torch.ones(int(gigabytes * 1e9) // 4)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return 2 * source.numel() * 4 / 1e9 / best


def run(command: list[str], out: Path) -> tuple[float, float]:
    """Run a command that writes the folder `out`, which is removed; return its wall seconds and its peak memory in GB.

    Raises CalledProcessError with its output.
    """
    shutil.rmtree(out, ignore_errors=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            output.seek(0)
            raise subprocess.CalledProcessError(status, command, output.read())
    shutil.rmtree(out)
    return seconds, usage.ru_maxrss * 1024 / 1e9


def mergekit_config(root: Path, method: str, experts: int) -> str:
    """Return the YAML of the same merge for mergekit."""
    numbers = METHODS[method]
    lines = [f"merge_method: {method}", f"base_model: {root / 'base'}", "dtype: bfloat16", "models:"]
    for index in range(1, experts + 1):
        lines += [f"  - model: {root / f'expert{index}'}", "    parameters:", "      weight: 1.0"]
        lines += [f"      {key}: {value}" for key, value in numbers.items()]
    return "\n".join(lines) + "\n"


def commands(root: Path, method: str, experts: int, mergekit: str | None) -> list[list[str]]:
    """Return the command lines of the same merge to `root / "out"`: ours and, if given, mergekit's.

    Writes the configuration that mergekit reads beside the sources.
    """
    sources = [str(root / "base"), *(str(root / f"expert{i}") for i in range(1, experts + 1))]
    spec = {"base": sources[0], "experts": sources[1:], "merge_method": method} | METHODS[method]
    ours = [sys.executable, "-m", "della_bench.cli", "merge", json.dumps(spec), "-o", str(root / "out")]
    if not mergekit:
        return [ours]
    (root / "merge.yaml").write_text(mergekit_config(root, method, experts))
    flags = ["--no-write-model-card", "--no-copy-tokenizer"]
    return [ours, [mergekit, str(root / "merge.yaml"), str(root / "out"), *flags]]


def warm_up(root: Path, methods: list[str], experts: int, mergekit: str | None) -> None:
    """Merge a small model by all methods and programs; says on stderr how long each took."""
    for method in methods:
        for command in commands(root, method, experts, mergekit):
            seconds, _ = run(command, root / "out")
            print(f"{Path(command[0]).name}, a small model by {method}: {seconds:.1f} s", file=sys.stderr)


def read_all(root: Path) -> None:
    """Bring the sources into the page cache, which other work may have pushed them out of."""
    for path in sorted(root.glob("*/model.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def measure(root: Path, method: str, experts: int, mergekit: str | None, bandwidth: float, rounds: int) -> Row:
    """Run one method by both programs in turn, ours first."""
    programs = commands(root, method, experts, mergekit)
    found: list[list[tuple[float, float]]] = [[] for _ in programs]
    for _ in range(rounds):
        for command, runs in zip(programs, found, strict=True):
            read_all(root)
            runs.append(run(command, root / "out"))
    (seconds, memory), *theirs = [(median(s for s, _ in runs), max(m for _, m in runs)) for runs in found]
    moved = (experts + 2) * (root / "base" / "model.safetensors").stat().st_size / 1e9
    rate = moved / seconds
    return Row(method, seconds, memory, rate, rate / bandwidth, *(theirs[0] if theirs else (None, None)))


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| method | s | mergekit s | ratio | GB | mergekit GB | GB/s moved | share of copy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        other = (f"{r.mergekit_seconds:.1f}", f"{r.ratio:.1f}") if r.mergekit_seconds and r.ratio else ("", "")
        memory = f"{r.mergekit_memory:.2f}" if r.mergekit_memory else ""
        lines.append(
            f"| {r.method} | {r.seconds:.1f} | {other[0]} | {other[1]} | {r.memory:.2f} | {memory} "
            f"| {r.gb_per_second:.2f} | {100 * r.share_of_copy:.0f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--size", choices=list(SIZES), default="374M")
    parser.add_argument("--layers", type=int, help="fewer for a quick look")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="rounds, of which the median counts")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "della_bench_benchmark")
    parser.add_argument("--mergekit", default=shutil.which("mergekit-yaml"), help="the mergekit-yaml to run")
    parser.add_argument("--no-mergekit", action="store_true", help="measure ours alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shape, small = SIZES[options.size], Shape(layers=1, vocabulary=512)
    if options.layers:
        shape = replace(shape, layers=options.layers)
    root, small_root = (options.work / f"{s.layers}x{s.hidden}x{s.vocabulary}" for s in (shape, small))
    methods = options.methods.split(",")
    # In a process of its own: what this one holds would count as memory of the commands it starts.
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(make_checkpoints, root, shape, options.experts).result()
        pool.submit(make_checkpoints, small_root, small, options.experts).result()
        bandwidth = pool.submit(copy_bandwidth).result()
    mergekit = None if options.no_mergekit else options.mergekit
    warm_up(small_root, methods, options.experts, mergekit)
    rows = [measure(root, method, options.experts, mergekit, bandwidth, options.repeat) for method in methods]
    parameters = sum(_product(dims) for dims in shapes(shape).values())
    if options.json:
        facts = {"parameters": parameters, "experts": options.experts, "copy_gb_per_second": bandwidth}
        print(json.dumps({**facts, "rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}, indent=2))
    else:
        print(f"{parameters / 1e6:.0f} M parameters, {options.experts} experts, bf16; copy {bandwidth:.1f} GB/s")
        print(table(rows))


def _product(dims: tuple[int, ...]) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


if __name__ == "__main__":
    main()
