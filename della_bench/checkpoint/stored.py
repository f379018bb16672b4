"""A tensor as bytes: what lies in a file or in memory, with its dtype and shape, before anything computes with it.

Reading, merging on the CPU and writing need no more than this, and so no torch, whose import takes longer than a small
merge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["FLOAT_DTYPES", "ITEM_SIZES", "SAFETENSORS_NAMES", "TORCH_NAMES", "Bytes", "Stored"]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Names as in safetensors' headers, and torch's for the same.
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")
SAFETENSORS_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL", "uint8": "U8",
    "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32", "uint64": "U64", "int64": "I64",
}  # fmt: skip
TORCH_NAMES = {short: name for name, short in SAFETENSORS_NAMES.items()}
ITEM_SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "U8": 1,
    "I8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor in host memory: `data` (uint8, flat) in the machine's byte order, aligned to its items.

    dtype: safetensors' name (F32, BF16, I64, ...).
    """

    data: Bytes
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Stored:
        """Look at a tensor on the CPU, without a copy where it is contiguous."""
        import torch

        dtype = SAFETENSORS_NAMES[str(tensor.dtype).removeprefix("torch.")]
        flat = tensor.detach().contiguous().reshape(-1)
        if flat.stride() != (1,):  # one element, expanded, counts as contiguous
            flat = flat.new_empty(flat.shape).copy_(flat)
        return cls(flat.view(torch.uint8).numpy(), dtype, tuple(tensor.shape))

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it is a tensor that a merge computes with."""
        return self.dtype in FLOAT_DTYPES

    @property
    def address(self) -> int:
        """Where its first element lies."""
        return int(self.data.ctypes.data)

    def tensor(self) -> torch.Tensor:
        """Return it as torch's, over the same memory."""
        import torch

        dtype: torch.dtype = getattr(torch, TORCH_NAMES[self.dtype])
        if not self.size:
            return torch.empty(self.shape, dtype=dtype)
        return torch.from_numpy(self.data).view(dtype).reshape(self.shape)
