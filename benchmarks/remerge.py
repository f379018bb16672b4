"""One engine, many merges: seconds a remerge against a fresh engine, and against a checkpoint written beforehand.

    python benchmarks/remerge.py [--engine vllm|hf] [--specs 10] [--size 374M] [--tensor-parallel-size T]
                                 [--device cuda] [--resident PLACE] [--json]

Starts one engine on the first merge, then takes the others in place, asking each one question, so that a row counts
only if the answer is the one that the same merge gives from a written checkpoint. Without `--size` the models are the
embedded zoo; with it, synthetic ones of a Llama's shape (see benchmarks/merge.py). With several workers the merge is
also timed with each worker merging all of it. Seconds are of the wall clock; sources lie in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

PROMPT_TOKENS = [5, 17, 40, 200, 258, 3, 9, 120]


def specs(size: str | None, layers: int | None, count: int, work: Path, device: str) -> list[dict[str, Any]]:
    """Return `count` merges that differ in their drop rate, of one base and the same experts."""
    if size is None:
        sources = {"base": "zoo:base", "experts": "zoo:math+zoo:code+zoo:chat"}
    else:
        from merge import SIZES, make_checkpoints

        shape = replace(SIZES[size], layers=layers or SIZES[size].layers)
        root = work / f"{size}-{shape.layers}-{device}"
        make_checkpoints(root, shape, 3, device)
        for file in Path(zoo_tokenizer()).glob("*token*"):  # they have none of their own
            shutil.copy(file, root / "base")
        experts = "+".join(str(root / f"expert{i}") for i in (1, 2, 3))
        sources = {"base": str(root / "base"), "experts": experts}
    rates = [round(0.1 + 0.7 * index / max(count - 1, 1), 3) for index in range(count)]
    return [{**sources, "merge_method": "della", "drop_rate": rate, "window_size": 0.1} for rate in rates]


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds an action takes, and what it returns."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


class Transformers:
    """lm-eval's models on transformers."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.resident, self.workers, self.device = options.resident, 1, options.device

    def merged(self, merge: dict[str, Any]) -> Any:
        """Start a model that merges."""
        from della_bench.models.hf import DellaMergedLM

        return DellaMergedLM(**merge, device=self.device, **({"resident": self.resident} if self.resident else {}))

    def written(self, folder: Path, dtype: str) -> Any:
        """Start a model on a checkpoint."""
        from lm_eval.models.huggingface import HFLM

        return HFLM(pretrained=str(folder), dtype=dtype, device=self.device, tokenizer=zoo_tokenizer())

    def reload(self, lm: Any, folder: Path) -> None:
        """Read a checkpoint into the running model."""
        from safetensors.torch import load_file

        for file in sorted(folder.glob("*.safetensors")):
            lm.model.load_state_dict(load_file(file, device=self.device), strict=False)

    def answer(self, lm: Any) -> list[int]:
        """Return the tokens that a model continues one prompt with, greedily."""
        import torch

        with torch.inference_mode():
            out = lm.model.generate(
                torch.tensor([PROMPT_TOKENS], device=self.device), max_new_tokens=24, min_new_tokens=24, do_sample=False
            )
        return list(out[0, len(PROMPT_TOKENS) :].tolist())

    def stop(self, lm: Any) -> None:
        """Nothing runs beside this process."""


class VLLM:
    """lm-eval's models on vLLM."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.resident, self.workers = options.resident, options.tensor_parallel_size
        self.arguments = {"enforce_eager": True, "max_model_len": 512, "tensor_parallel_size": self.workers}

    def merged(self, merge: dict[str, Any]) -> Any:
        """Start an engine that merges."""
        from della_bench.models.vllm import DellaMergedVLLM

        return DellaMergedVLLM(**merge, **self.arguments, resident=self.resident)

    def written(self, folder: Path, dtype: str) -> Any:
        """Start an engine on a checkpoint."""
        from types import SimpleNamespace

        from vllm import LLM

        return SimpleNamespace(model=LLM(model=str(folder), dtype=dtype, **self.arguments))

    def reload(self, lm: Any, folder: Path) -> None:
        """Have the running engine read its checkpoint again."""
        lm.model.collective_rpc("reload_weights")

    def answer(self, lm: Any) -> list[int]:
        """Return the tokens that an engine continues one prompt with, greedily."""
        from vllm import SamplingParams, TokensPrompt

        sampling = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
        (output,) = lm.model.generate([TokensPrompt(prompt_token_ids=PROMPT_TOKENS)], sampling, use_tqdm=False)
        return list(output.outputs[0].token_ids)

    def stop(self, lm: Any) -> None:
        """End an engine's processes."""
        lm.model.llm_engine.engine_core.shutdown()


ENGINES: dict[str, type[Transformers] | type[VLLM]] = {"hf": Transformers, "vllm": VLLM}


def zoo_tokenizer() -> str:
    """Return the folder of the tokenizer that synthetic models borrow."""
    from della_bench import zoo

    return str(zoo.folder("base"))


def measure_remerges(engine: Transformers | VLLM, merges: list[dict[str, Any]]) -> dict[str, Any]:
    """Start one model and take all merges in place."""
    fresh, lm = seconds(lambda: engine.merged(merges[0]))
    try:
        times, answers = [], []
        for merge in merges:
            times.append(seconds(lambda merge=merge: lm.remerge(merge))[0])
            answers.append(engine.answer(lm))
        found = {"fresh": fresh, "remerge": times, "answers": answers}
        if engine.workers > 1:
            found["each"] = [seconds(lambda merge=merge: remerge_each(lm, merge))[0] for merge in merges]
        return found
    finally:
        engine.stop(lm)


def remerge_each(lm: Any, merge: dict[str, Any]) -> None:
    """Remerge with every worker merging all tensors."""

    from della_bench.spec import MergeSpec

    settings = replace(lm._settings(MergeSpec.parse(merge)), divide=False)
    if any(lm.model.collective_rpc("della_remerge", args=(settings.as_config(),))):
        raise SystemExit("a worker could not merge")


def measure_checkpoint(engine: Transformers | VLLM, merge: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write a merge, start a model on it, and have that model read it again in place."""
    from della_bench.merge.folder import write_folder
    from della_bench.merge.stream import Merge
    from della_bench.models.build import merged_dtype
    from della_bench.spec import MergeSpec

    opened = Merge(MergeSpec.parse(merge))
    written, _ = seconds(lambda: write_folder(opened, folder, progress=False))
    dtype = str(merged_dtype(opened)).removeprefix("torch.")
    fresh, lm = seconds(lambda: engine.written(folder, dtype))
    try:
        reload = [seconds(lambda: engine.reload(lm, folder))[0] for _ in range(3)]
        return {"write": written, "fresh": fresh, "reload": statistics.median(reload), "answer": engine.answer(lm)}
    finally:
        engine.stop(lm)


def report(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return the figures as text; the first remerge also fills memory and compiles, so the median is what counts."""
    typical = statistics.median(ours["remerge"])
    lines = [
        f"remerge, in place          {typical:8.2f} s  (median of {len(ours['remerge'])}: "
        f"{min(ours['remerge']):.2f} to {max(ours['remerge']):.2f})",
        f"fresh engine, merging      {ours['fresh']:8.2f} s  {ours['fresh'] / typical:6.1f} x",
        f"fresh engine, checkpoint   {theirs['fresh']:8.2f} s  {theirs['fresh'] / typical:6.1f} x",
        f"  and to write it          {theirs['write']:8.2f} s",
        f"written, fresh, loaded     {theirs['write'] + theirs['fresh']:8.2f} s  "
        f"{(theirs['write'] + theirs['fresh']) / typical:6.1f} x",
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
    parser.add_argument("--engine", choices=list(ENGINES), default="vllm")
    parser.add_argument("--specs", type=int, default=10)
    parser.add_argument("--size", choices=["374M", "1.1B", "3B", "9B"], help="of synthetic models; default: the zoo")
    parser.add_argument("--layers", type=int, help="fewer of them, for a quick look")
    parser.add_argument("--device", default="cpu", help="of transformers; vLLM takes its own")
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--resident", choices=["disk", "cpu", "gpu"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "della_bench_benchmark")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    merges = specs(options.size, options.layers, options.specs, options.work, options.device)
    engine = ENGINES[options.engine](options)
    ours = measure_remerges(engine, merges)
    with tempfile.TemporaryDirectory() as folder:
        theirs = measure_checkpoint(engine, merges[-1], Path(folder) / "merged")
    print(json.dumps({"remerge": ours, "checkpoint": theirs}, indent=2) if options.json else report(ours, theirs))


if __name__ == "__main__":
    main()
