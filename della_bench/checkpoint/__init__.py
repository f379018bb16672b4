"""Reading base and experts: where they lie, what is in them, and whether they fit together."""

from della_bench.checkpoint.adapter import Adapter
from della_bench.checkpoint.fit import Fit, check_fit
from della_bench.checkpoint.formats import TensorInfo
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.opening import open_base, open_expert
from della_bench.checkpoint.reader import Checkpoint
from della_bench.checkpoint.resolve import resolve

__all__ = [
    "Adapter", "Checkpoint", "Fit", "ModelFolder", "TensorInfo", "check_fit", "open_base", "open_expert", "resolve",
]  # fmt: skip
