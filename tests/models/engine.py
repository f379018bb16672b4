"""vLLM's engine inside the process of a test: one of its own imports everything twice more, in half a minute."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["end", "vllm_inside"]


@pytest.fixture
def vllm_inside(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the arguments of a small engine that starts inside this process; `end` ends it.

    What goes from process to process is held by the tests of `test_vllm.py` and `test_vllm_processes.py`.
    """
    import torch
    from vllm.platforms import current_platform
    from vllm.triton_utils import dispatcher

    register = current_platform.register_triton_kernel_overrides
    monkeypatch.setattr(
        current_platform, "register_triton_kernel_overrides", lambda: None if dispatcher._registry else register()
    )  # each engine does it, and one process knows no second time
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # the tests send functions to the workers
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(torch, "set_num_threads", torch.set_num_threads)  # the engine replaces it
    return {"enforce_eager": True, "max_model_len": 512, "gpu_memory_utilization": 0.2}


def end(lm: Any) -> None:
    """End the engine of a model of lm-eval's, so that there can be another one in this process."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    lm.model.llm_engine.engine_core.shutdown()
    cleanup_dist_env_and_memory()
