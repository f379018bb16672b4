from __future__ import annotations

import os

import numpy as np
import pytest

from della_bench.merge import output
from della_bench.merge.output import Output


@pytest.fixture(params=["direct", "refused when opened", "refused when written", "not of this system"])
def way(request, monkeypatch):
    """The ways in which a file system meets direct I/O."""
    opens, writes, flag = os.open, os.write, getattr(os, "O_DIRECT", 0)

    def open_(path, flags, mode=0o777):
        if flags & flag and request.param == "refused when opened":
            raise OSError(22, "Invalid argument")
        return opens(path, flags, mode)

    def write(file, data):
        import fcntl

        if request.param == "refused when written" and fcntl.fcntl(file, fcntl.F_GETFL) & flag:
            raise OSError(22, "Invalid argument")
        return writes(file, data[:3000] if request.param == "refused when opened" else data)  # and in parts

    if request.param == "not of this system":
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    elif not flag:
        pytest.skip("no direct I/O on this system")
    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (4096,), (16_384, 16_384), (5000, 1, 40_000, 16_383), (100_000,)])
def test_a_file_holds_what_was_written_in_its_order(tmp_path, monkeypatch, way, sizes):
    monkeypatch.setattr(output, "_CHUNK", 16_384)
    parts = [np.random.default_rng(size).integers(0, 256, size, np.uint8) for size in sizes]
    path = tmp_path / "file"
    path.write_bytes(b"old" * 50_000)
    with Output(path) as file:
        file.write(b"head")
        for part in parts:
            file.write(part)
        file.finish()
    assert path.read_bytes() == b"head" + b"".join(part.tobytes() for part in parts)


def test_a_full_device_is_an_oserror(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    (tmp_path / "file").symlink_to("/dev/full")
    with Output(tmp_path / "file") as file:
        file.write(b"x")
        with pytest.raises(OSError, match="No space left"):
            file.finish()
