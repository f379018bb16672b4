"""The one type of a tensor between files, merging and torch."""

import gc
import weakref

import numpy as np
import pytest
import torch

from della_bench.checkpoint import HostTensor, TensorInfo, dtype_name
from della_bench.checkpoint.tensor import DTYPES, ITEM_SIZES, torch_dtype
from tests.checkpoint.conftest import tensors


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_has_one_name_and_one_size_in_every_vocabulary(name):
    dtype = torch_dtype(name)
    assert dtype_name(dtype) == dtype_name(DTYPES[name]) == name
    assert torch.empty(0, dtype=dtype).itemsize == ITEM_SIZES[name]
    assert name == "BF16" or dtype_name(np.dtype(DTYPES[name])) == name


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_torchs_tensors_and_arrays_come_back_as_they_went_in(shape):
    tensor = torch.arange(6.0)[: int(np.prod(shape))].reshape(shape)
    for host in (HostTensor.of(tensor), HostTensor.of(tensor.numpy())):
        assert host.info == TensorInfo(shape, "F32")
        assert torch.equal(host.to_torch(), tensor)


@pytest.mark.parametrize(("dtype", "name"), [(">f4", "F32"), ("<f2", "F16"), (np.float64, "F64"), (">c8", "complex64")])
def test_a_dtypes_name_does_not_depend_on_its_byte_order(dtype, name):
    assert dtype_name(np.dtype(dtype)) == name


def test_what_is_contiguous_is_looked_at_and_not_copied():
    tensor, array = torch.ones(3), np.ones(3)
    assert HostTensor.of(tensor).address == tensor.data_ptr()
    assert HostTensor.of(array).address == array.ctypes.data


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(3, 2).T,
        np.frombuffer(b"\0" + np.arange(6, dtype=np.float32).tobytes(), np.float32, 6, 1),
    ],
    ids=["big-endian", "transposed", "unaligned"],
)
def test_an_array_of_any_layout_becomes_one_in_the_machines_order(array):
    host = HostTensor.of(array)
    assert host.dtype == "F32"
    assert np.array_equal(host.to_torch().numpy(), array)


@pytest.mark.parametrize(
    ("data", "dtype", "shape"),
    [(8, "F32", (3,)), (12, "F32", (2,)), (4, "float32", (1,)), (4, "C64", ())],
)
def test_bytes_that_are_no_such_tensor_never_reach_a_loop(data, dtype, shape):
    with pytest.raises(ValueError, match=rf"{data} bytes at 0x\w+ are no tensor {dtype}"):
        HostTensor(np.zeros(data, np.uint8), dtype, shape)


def test_bytes_that_are_not_aligned_never_reach_a_loop():
    with pytest.raises(ValueError, match="4 bytes at"):
        HostTensor(np.zeros(8, np.uint8)[1:5], "F32", (1,))


def test_a_tensor_is_mapped_once_for_all_who_hold_it_and_let_go_with_the_last(model):
    checkpoint = model("x")
    name = next(iter(tensors()))
    first = checkpoint.tensor(name)
    assert checkpoint.tensor(name) is first
    gone = weakref.ref(first.data)
    del first
    gc.collect()
    assert gone() is None
    assert torch.equal(checkpoint.tensor(name).to_torch(), tensors()[name])
