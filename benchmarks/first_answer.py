"""The first answer: from a command of lm-evaluation-harness to its end, one token on, merging against loading.

    python benchmarks/first_answer.py [--device cpu] [--repeat 3] [--json]

Both commands ask the embedded zoo's task one problem and let the model write one token: `--model della_merged` merges
base and two experts by della, `--model hf` loads that merge from a folder written before. Warm: the compiled loops are
in the cache. Cold: they are not, as after an installation; the system's page cache holds the files in both cases.
Seconds of the wall clock, the median of `--repeat`; both commands in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MERGE = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=della,drop_rate=0.4,window_size=0.1"


def run(model: str, arguments: str, device: str, cache: Path, out: Path) -> float:
    """Return the seconds of one command, which are also printed. Raises SystemExit with its output."""
    command = [sys.executable, "-m", "lm_eval", "--model", model, "--model_args", arguments, "--tasks", "zoo_math"]
    command += ["--limit", "1", "--gen_kwargs", "max_gen_toks=1", "--device", device, "--output_path", str(out)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "DELLA_BENCH_CACHE": str(cache)}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{model} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    print(f"{model}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return seconds


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds, of which the median counts")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        spec = MERGE.replace(",", "\n").replace("=", ": ").replace("zoo:math+zoo:code", "[zoo:math, zoo:code]")
        (work / "spec.yaml").write_text(spec, encoding="utf-8")
        merge = [sys.executable, "-m", "della_bench.cli", "merge", str(work / "spec.yaml"), "-o", str(work / "written")]
        subprocess.run(merge, check=True, capture_output=True)
        written = f"pretrained={work / 'written'},dtype=float32"
        cold = [
            run("della_merged", MERGE, options.device, work / f"cold{n}", work / "out") for n in range(options.repeat)
        ]
        merging, loading = [], []
        for _ in range(options.repeat):
            merging.append(run("della_merged", MERGE, options.device, work / "cold0", work / "out"))
            loading.append(run("hf", written, options.device, work / "cold0", work / "out"))
    found = {"cold": cold, "warm": merging, "hf": loading}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    middle = {name: statistics.median(each) for name, each in found.items()}
    print(f"hf on the written folder   {middle['hf']:6.1f} s")
    print(f"della_merged, warm         {middle['warm']:6.1f} s  {middle['warm'] / middle['hf']:.2f} x")
    print(f"della_merged, cold         {middle['cold']:6.1f} s  {middle['cold'] - middle['warm']:+.1f} s")


if __name__ == "__main__":
    main()
