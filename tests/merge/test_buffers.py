from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from della_bench.merge.kernels.buffers import Buffers

MEGA = 1 << 20


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_handed_on_when_the_last_tensor_over_it_is_gone():
    pool = Buffers()
    other = pool.take(MEGA)  # keeps the pool from letting go
    tensor = torch.from_numpy(pool.take(4 * MEGA)).view(torch.bfloat16).reshape(2, -1)
    place, row = tensor.data_ptr(), tensor[1]
    del tensor
    assert pool._free == [], "a row still looks at it"
    del row
    assert address(pool.take(4 * MEGA)) == place
    assert other.size == MEGA


def test_all_is_let_go_when_nothing_is_lent():
    pool = Buffers()
    arrays = [pool.take(2 * MEGA) for _ in range(3)]
    assert len(arrays) == 3
    del arrays
    gc.collect()
    assert pool._free == []


def test_two_threads_never_share_memory():
    pool, faults = Buffers(), []

    def work(mark: int) -> None:
        for _ in range(200):
            array = pool.take(MEGA)
            array[:] = mark
            if not (array == mark).all():
                faults.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_all_is_kept_while_the_pool_is_held_and_let_go_after():
    pool = Buffers()
    with pool.hold():
        place = address(pool.take(2 * MEGA))
        assert address(pool.take(2 * MEGA)) == place
    assert pool._free == []


def test_a_buffer_is_handed_on_for_its_own_size_only_and_keeps_a_few():
    pool = Buffers()
    with pool.hold():
        place = address(pool.take(4 * MEGA))
        other = pool.take(2 * MEGA)
        assert address(other) != place
        assert address(pool.take(4 * MEGA)) == place
        for size in range(5, 20):
            pool.take(size * MEGA)
        assert [buffer.size // MEGA for buffer in pool._free] == [16, 17, 18, 19]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux alone tells how memory is mapped")
def test_a_large_buffer_is_private_memory_since_shared_memory_has_no_huge_pages():
    buffer = Buffers().take(8 * MEGA)
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(bound, 16) for bound in line.split()[0].split("-"))
        if first <= address(buffer) < last:
            assert line.split()[1] == "rw-p"
            return
    pytest.fail("the buffer is in no mapping")
