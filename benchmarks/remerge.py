"""One vLLM engine, many merges: seconds a remerge against a fresh engine, and against a checkpoint written beforehand.

    python benchmarks/remerge.py [--specs 10] [--layers N] [--tensor-parallel-size T] [--resident PLACE] [--json]

Starts one engine on the first merge, then takes the others in place, asking each one question, so that a row counts
only if the answer is the one that the same merge gives from a written checkpoint. Without `--layers` the models are the
embedded zoo; with it, synthetic ones of a Llama's shape (see benchmarks/merge.py). With several workers the merge is
also timed with each worker merging all of it. Seconds are of the wall clock; sources lie in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROMPT_TOKENS = [5, 17, 40, 200, 258, 3, 9, 120]


def specs(layers: int | None, count: int, work: Path) -> list[dict[str, Any]]:
    """Return `count` merges that differ in their drop rate, of one base and the same experts."""
    if layers is None:
        sources = {"base": "zoo:base", "experts": "zoo:math+zoo:code+zoo:chat"}
    else:
        from merge import Shape, make_checkpoints

        root = work / f"{layers}x{Shape.hidden}"
        make_checkpoints(root, Shape(layers=layers), 3)
        experts = "+".join(str(root / f"expert{i}") for i in (1, 2, 3))
        sources = {"base": str(root / "base"), "experts": experts, "tokenizer": "zoo:base"}  # they have none
    rates = [round(0.1 + 0.7 * index / max(count - 1, 1), 3) for index in range(count)]
    return [{**sources, "merge_method": "della", "drop_rate": rate, "window_size": 0.1} for rate in rates]


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds an action takes, and what it returns."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def answer(engine: Any) -> list[int]:
    """Return the tokens that an engine continues one prompt with, greedily."""
    from vllm import SamplingParams, TokensPrompt

    sampling = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
    (output,) = engine.generate([TokensPrompt(prompt_token_ids=PROMPT_TOKENS)], sampling, use_tqdm=False)
    return list(output.outputs[0].token_ids)


def engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return vLLM's arguments, the same for every engine."""
    return {"enforce_eager": True, "max_model_len": 512, "tensor_parallel_size": options.tensor_parallel_size}


def stop(engine: Any) -> None:
    """End an engine's processes."""
    engine.llm_engine.engine_core.shutdown()


def measure_remerges(options: argparse.Namespace, merges: list[dict[str, Any]]) -> dict[str, Any]:
    """Start one engine and take all merges in place."""
    from della_bench.models.vllm import DellaMergedVLLM

    fresh, lm = seconds(lambda: DellaMergedVLLM(**merges[0], **engine_options(options), resident=options.resident))
    try:
        times, answers = [], []
        for merge in merges:
            times.append(seconds(lambda merge=merge: lm.remerge(merge))[0])
            answers.append(answer(lm.model))
        found = {"fresh": fresh, "remerge": times, "answers": answers}
        if options.tensor_parallel_size > 1:
            found["each"] = [seconds(lambda merge=merge: remerge_each(lm, merge))[0] for merge in merges]
        return found
    finally:
        stop(lm.model)


def remerge_each(lm: Any, merge: dict[str, Any]) -> None:
    """Remerge with every worker merging all tensors."""
    from dataclasses import replace

    from della_bench.spec import MergeSpec

    settings = replace(lm._settings(MergeSpec.parse(merge)), divide=False)
    if any(lm.model.collective_rpc("della_remerge", args=(settings.as_config(),))):
        raise SystemExit("a worker could not merge")


def measure_checkpoint(options: argparse.Namespace, merge: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write a merge, start an engine on it, and have that engine read it again in place."""
    from vllm import LLM

    from della_bench.merge.folder import write_folder
    from della_bench.merge.stream import Merge
    from della_bench.models.build import merged_dtype
    from della_bench.spec import MergeSpec

    opened = Merge(MergeSpec.parse(merge))
    written, _ = seconds(lambda: write_folder(opened, folder, progress=False))
    dtype = str(merged_dtype(opened)).removeprefix("torch.")
    start = lambda: LLM(model=str(folder), dtype=dtype, **engine_options(options))  # noqa: E731
    fresh, engine = seconds(start)
    try:
        reload = [seconds(lambda: engine.collective_rpc("reload_weights"))[0] for _ in range(3)]
        return {"write": written, "fresh": fresh, "reload": statistics.median(reload), "answer": answer(engine)}
    finally:
        stop(engine)


def report(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return the figures as text; the first remerge also fills memory and compiles, so the median is what counts."""
    typical = statistics.median(ours["remerge"])
    lines = [
        f"remerge, in place          {typical:8.2f} s  (median of {len(ours['remerge'])}: "
        f"{min(ours['remerge']):.2f} to {max(ours['remerge']):.2f})",
        f"fresh engine, merging      {ours['fresh']:8.2f} s  {ours['fresh'] / typical:6.1f} x",
        f"fresh engine, checkpoint   {theirs['fresh']:8.2f} s  {theirs['fresh'] / typical:6.1f} x",
        f"  and to write it          {theirs['write']:8.2f} s",
        f"checkpoint, read in place  {theirs['reload']:8.2f} s  {theirs['reload'] / typical:6.1f} x",
    ]
    if "each" in ours:
        each = statistics.median(ours["each"])
        lines.append(f"each worker merging all    {each:8.2f} s  {each / typical:6.1f} x")
    same = ours["answers"][-1] == theirs["answer"]
    lines.append(f"answers of the last merge and of its checkpoint agree: {'yes' if same else 'NO'}")
    lines.append(f"different answers among the merges: {len(set(map(tuple, ours['answers'])))}")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--specs", type=int, default=10)
    parser.add_argument("--layers", type=int, help="of synthetic models; default: the zoo")
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--resident", choices=["disk", "cpu", "gpu"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "della_bench_benchmark")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    merges = specs(options.layers, options.specs, options.work)
    ours = measure_remerges(options, merges)
    with tempfile.TemporaryDirectory() as folder:
        theirs = measure_checkpoint(options, merges[-1], Path(folder) / "merged")
    print(json.dumps({"remerge": ours, "checkpoint": theirs}, indent=2) if options.json else report(ours, theirs))


if __name__ == "__main__":
    main()
