"""Reading base and experts: where they lie, what is in them, and whether they fit together."""

from della_bench.checkpoint.fit import Fit, check_fit
from della_bench.checkpoint.reader import Checkpoint, TensorInfo
from della_bench.checkpoint.resolve import resolve

__all__ = ["Checkpoint", "Fit", "TensorInfo", "check_fit", "resolve"]
