"""The one place that tells what a source is: a whole model or an adapter."""

from __future__ import annotations

from della_bench.checkpoint.adapter import Adapter, is_adapter
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.reader import Checkpoint
from della_bench.checkpoint.resolve import resolve
from della_bench.errors import CheckpointError
from della_bench.spec.source import Source

__all__ = ["open_base", "open_expert"]


def open_base(source: Source, *, trust_remote_code: bool = False) -> Checkpoint:
    """Resolve a source and read its headers; it must be a whole model."""
    folder = resolve(source, trust_remote_code=trust_remote_code)
    if is_adapter(folder):
        raise CheckpointError(f"{source}: a LoRA adapter; it can be an expert, but the base is a whole model")
    return Checkpoint(folder, str(source))


def open_expert(source: Source, base: ModelFolder, *, trust_remote_code: bool = False) -> ModelFolder:
    """Resolve a source and read its headers; an adapter changes `base`."""
    folder = resolve(source, trust_remote_code=trust_remote_code)
    if is_adapter(folder):
        return Adapter(folder, str(source), base)
    return Checkpoint(folder, str(source))
