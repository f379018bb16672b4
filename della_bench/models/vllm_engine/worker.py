"""A worker's part of a remerge: methods that vLLM adds to its workers (`worker_extension_cls`)."""

from __future__ import annotations

import logging
import time
from typing import Any

from della_bench.models.vllm_engine import versions
from della_bench.models.vllm_engine.loader import give_up
from della_bench.models.vllm_engine.settings import failure_of

__all__ = ["MergeWorker"]

log = logging.getLogger(__name__)


class MergeWorker:
    """Added to vLLM's worker class; called by name through `collective_rpc`."""

    def della_remerge(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Take another merge in place; `settings` is a `Settings` as plain values.

        Returns None, or the failure as plain values. Nothing is raised: vLLM stops listening to the other workers when
        one of them raises, and would take their answers for those to the next call.
        """
        started = time.perf_counter()
        worker: Any = self
        model = versions.model_of(worker)
        try:
            worker.update_config({"load_config": {"model_loader_extra_config": settings}})
            worker.reload_weights()
            versions.refresh_tied(model)
        except Exception as error:
            log.exception("a merge could not be loaded")
            give_up(model, error)
            versions.repair(worker)
            return failure_of(error)
        log.info("merged in place in %.2f s", time.perf_counter() - started)
        return None
