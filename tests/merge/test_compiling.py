"""What is said while loops are compiled."""

from __future__ import annotations

import logging

import numba

from della_bench.merge.kernels.compiling import announced
from della_bench.merge.kernels.dispatch import working


def test_compiling_is_announced_once_and_running_is_not(caplog):
    def add(a, b):
        return a + b

    foreign = numba.njit(lambda a: a)
    add.__module__ = "della_bench.merge.kernels.some"
    add = numba.njit(add)

    with caplog.at_level(logging.INFO, logger="della_bench"):
        with announced():
            foreign(1)
            assert not caplog.messages
            add(1, 2)
            add(1.0, 2.0)
        assert [message.partition(",")[0] for message in caplog.messages] == ["compiling the merging loops"]
        caplog.clear()
        with announced():
            add(1, 2)
        add(1j, 2)
    assert not caplog.messages


def test_it_is_announced_while_a_merge_is_at_work(caplog):
    def twice(a):
        return 2 * a

    twice.__module__ = "della_bench.merge.kernels.some"
    with caplog.at_level(logging.INFO, logger="della_bench"), working():
        numba.njit(twice)(1)
    assert [message.partition(",")[0] for message in caplog.messages] == ["compiling the merging loops"]
