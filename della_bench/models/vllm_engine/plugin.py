"""vLLM's door to this package: the entry point in the group `vllm.general_plugins`.

vLLM calls `register` in the process of its API, in that of the engine, and in every worker, sometimes more than once.
"""

from __future__ import annotations

__all__ = ["LOAD_FORMAT", "WORKER_EXTENSION", "register"]

LOAD_FORMAT = "della_merged"
WORKER_EXTENSION = "della_bench.models.vllm_engine.worker.MergeWorker"


def register() -> None:
    """Make the load format `della_merged` known to vLLM in this process; calling it again changes nothing."""
    from della_bench.models.vllm_engine import versions
    from della_bench.models.vllm_engine.loader import MergeLoader

    versions.register_loader(LOAD_FORMAT, MergeLoader)
