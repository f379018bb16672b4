"""A tensor as it passes the door: bytes in host memory with a dtype and a shape, before anything computes with it.

Reading, merging on the CPU and writing need no more than this, and so no torch, whose import takes nearly as long as a
whole merge of 374 M parameters by task arithmetic (1.1 s of processor time beside 1.6 s). What does need torch gets its
tensors and dtypes from `HostTensor.to_torch` and `torch_dtype`, and hands them back to `HostTensor.of` and
`dtype_name`; nothing else converts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "FLOAT_DTYPES", "ITEM_SIZES", "Bytes", "HostTensor", "TensorInfo", "dtype_name", "torch_dtype"]

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

# Names as in safetensors' headers: torch's and numpy's for the same.
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "U8": "uint8",
    "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
}  # fmt: skip
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")  # which a merge computes with
ITEM_SIZES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2, "U8": 1,
    "I8": 1, "BOOL": 1,
}  # fmt: skip
_NAMES = {name: short for short, name in DTYPES.items()}


def dtype_name(dtype: torch.dtype | np.dtype[Any] | str) -> str:
    """Return safetensors' name of a dtype of torch or numpy (BF16); one that has none keeps its own (complex64).

    numpy's byte order does not count: an array is brought into this machine's.
    """
    name = str(dtype.newbyteorder("=") if hasattr(dtype, "newbyteorder") else dtype).removeprefix("torch.")
    return _NAMES.get(name, name)


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's dtype by safetensors' name."""
    import torch

    dtype: torch.dtype = getattr(torch, DTYPES[name])
    return dtype


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of a tensor; `dtype` is safetensors' name (F32, BF16, I64, ...)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        """Whether it is a tensor that a merge computes with."""
        return self.dtype in FLOAT_DTYPES

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]

    def __str__(self) -> str:
        """Return dtype and shape: BF16 [32000, 4096]."""
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True, eq=False)
class HostTensor:
    """A tensor in host memory: `data` (uint8, flat) in the machine's byte order, aligned to its items.

    dtype: safetensors' name (F32, BF16, I64, ...). Raises ValueError where the bytes are not those of such a tensor:
    compiled loops reach them by their address.
    """

    data: Bytes
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Hold the bytes to dtype and shape."""
        size = ITEM_SIZES.get(self.dtype)
        if size is None or self.data.nbytes != self.size * size or self.address % size:
            raise ValueError(f"{self.data.nbytes} bytes at {self.address:#x} are no tensor {self.info}")

    @classmethod
    def of(cls, tensor: torch.Tensor | np.ndarray[Any, Any]) -> HostTensor:
        """Look at an array, or at torch's tensor on the CPU, without a copy where it is contiguous."""
        if isinstance(tensor, np.ndarray):
            array = np.require(tensor, tensor.dtype.newbyteorder("="), ["C", "A"])
            return cls(array.reshape(-1).view(np.uint8), dtype_name(array.dtype), array.shape)
        import torch

        flat = tensor.detach().contiguous().reshape(-1)
        if flat.stride() != (1,):  # one element, expanded, counts as contiguous
            flat = flat.new_empty(flat.shape).copy_(flat)
        return cls(flat.view(torch.uint8).numpy(), dtype_name(tensor.dtype), tuple(tensor.shape))

    @classmethod
    def joined(cls, tensors: Iterable[HostTensor], info: TensorInfo) -> HostTensor:
        """Return a tensor whose elements are those of others, one after the other; all are of its dtype."""
        data, start = np.empty(info.nbytes, np.uint8), 0
        for tensor in tensors:
            data[start : start + tensor.data.nbytes] = tensor.data
            start += tensor.data.nbytes
        return cls(data, info.dtype, info.shape)

    def piece(self, index: int, count: int) -> HostTensor:
        """Return one of `count` equal stretches of its first dimension, over the same memory."""
        nbytes = self.data.nbytes // count
        shape = (self.shape[0] // count, *self.shape[1:])
        return HostTensor(self.data[index * nbytes : (index + 1) * nbytes], self.dtype, shape)

    @property
    def info(self) -> TensorInfo:
        """Its shape and dtype."""
        return TensorInfo(self.shape, self.dtype)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def address(self) -> int:
        """Where its first element lies."""
        return int(self.data.ctypes.data)

    def to_torch(self) -> torch.Tensor:
        """Return it as torch's, over the same memory."""
        import torch

        dtype = torch_dtype(self.dtype)
        if not self.size:
            return torch.empty(self.shape, dtype=dtype)
        return torch.from_numpy(self.data).view(dtype).reshape(self.shape)
