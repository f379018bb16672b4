"""Reading base and experts: where they lie, what is in them, and whether they fit together."""

from della_bench.checkpoint.adapter import Adapter
from della_bench.checkpoint.check import check_fit
from della_bench.checkpoint.fit import Fit
from della_bench.checkpoint.formats import open_adapted, open_folder, open_source
from della_bench.checkpoint.model import Checkpoint, ModelFolder, WeightFile
from della_bench.checkpoint.resolve import resolve
from della_bench.checkpoint.tensor import HostTensor, TensorInfo, dtype_name

__all__ = [
    "Adapter", "Checkpoint", "Fit", "HostTensor", "ModelFolder", "TensorInfo", "WeightFile", "check_fit", "dtype_name",
    "open_adapted", "open_folder", "open_source", "resolve",
]  # fmt: skip
