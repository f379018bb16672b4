"""A program: one engine of two tensor-parallel workers through its life, to the death of one of them in a merge.

`python -m tests.models.two_workers OUT EXPERT` writes what it sees to OUT, a JSON object, before the last step; EXPERT
is an expert that cannot be merged. It ends with the exit code of an uncaught error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

SPEC = "base=zoo:base,experts=zoo:math+zoo:code,drop_rate=0.3,window_size=0.14,dtype=float32,lambda={}"
PROMPTS = ["Tom has 3 apples and buys 4 more.", "def f(x):", "Hello, how are you"]


def observe(lm: Any, hf: Any, lambda_: float) -> dict[str, Any]:
    """Merge in both engines, and compare what the workers hold and what they answer."""
    from tests.models.lm import ask
    from tests.models.parity import digests, expected

    for model in (lm, hf):
        model.remerge(SPEC.format(lambda_))
    found = lm.model.apply_model(digests)
    return {
        "weights": [found[rank] == expected(hf.model, rank, 2) for rank in (0, 1)],
        "answers": ask(lm, *PROMPTS) == ask(hf, *PROMPTS),
        "some": sorted(found[1].values())[:2],
    }


def main(out: Path, broken: str) -> None:
    """Run all steps; see the module."""
    from della_bench.errors import MergeError
    from della_bench.models.hf import DellaMergedLM
    from della_bench.models.vllm import DellaMergedVLLM
    from tests.models.parity import process_id

    options = {"enforce_eager": True, "max_model_len": 512, "tensor_parallel_size": 2, "gpu_memory_utilization": 0.2}
    lm = DellaMergedVLLM.create_from_arg_string(SPEC.format(1), options)
    hf = DellaMergedLM.create_from_arg_string(SPEC.format(1))
    seen: dict[str, Any] = {"merges": [observe(lm, hf, lambda_) for lambda_ in (1, 3)]}
    try:
        lm.remerge(SPEC.format(1).replace("zoo:code", broken))
    except MergeError as error:
        seen["failure"] = str(error)
    seen["merges"].append(observe(lm, hf, 1.1))
    workers = lm.model.apply_model(process_id)
    out.write_text(json.dumps(seen))
    # The second worker stands still, so that the first waits for its share of the merge, and dies two seconds later.
    os.kill(workers[1], signal.SIGSTOP)
    threading.Timer(2, os.kill, (workers[1], signal.SIGKILL)).start()
    lm.remerge(SPEC.format(2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
