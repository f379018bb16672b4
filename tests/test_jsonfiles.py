from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import pytest

from della_bench.errors import DataError
from della_bench.jsonfiles import RowLog, read_json, read_rows, write_json


@pytest.mark.parametrize(
    "text", ['{"a": 1}\n\n{"a": "\u2028"}\n', '[{"a": 1}, {"a": "\u2028"}]', '\ufeff{"a": 1}\n{"a": "\u2028"}']
)
def test_rows_come_from_lines_and_from_an_array(tmp_path, text):
    (tmp_path / "x").write_text(text, encoding="utf-8")
    assert [row for _, row in read_rows(tmp_path / "x")] == [{"a": 1}, {"a": "\u2028"}]


def test_gzip_is_read_by_its_name(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b'{"a": 1}\n'))
    assert list(read_rows(tmp_path / "x.gz")) == [(1, {"a": 1})]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b'{"a": 1}\n{"a": }\n', "line 2, column 7: not JSON"),
        (b'[{"a": 1},\n {"a": }]', "line 2, column 8: not JSON"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2, byte 8: not UTF-8 (byte 0xff)"),
        (b'{"a": 1}\n3\n', "line 2: expected a JSON object, got int"),
        (b"[" * 100_000, "line 1: nested too deeply"),
        (b'{"a": 1}\n{"a": ' + b"9" * 5000 + b"}", "line 2: a number with too many digits"),
    ],
)
def test_a_fault_is_named_by_file_and_place(tmp_path, data, fault):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_rows(tmp_path / "x"))
    assert str(caught.value).startswith(f"{tmp_path / 'x'}, {fault}")
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_json(tmp_path / "x")


def test_a_broken_gzip_is_an_error(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b'{"a": 1}\n')[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / "x.gz")


def test_a_document_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": "é"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": "é"}
    assert [file.name for file in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("torn", ["", '{"a": 2', "x" * 200_000])
def test_a_log_goes_on_after_the_last_whole_row(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    with RowLog(path) as log:
        log.append({"a": 1})
    with path.open("a") as file:
        file.write(torn)
    with RowLog(path) as log:
        log.append({"a": 3})
    assert [row for _, row in read_rows(path)] == [{"a": 1}, {"a": 3}]


def test_a_log_that_holds_only_a_torn_row_starts_empty(tmp_path):
    (tmp_path / "log").write_text('{"a"')
    RowLog(tmp_path / "log").close()
    assert (tmp_path / "log").read_text() == ""


def test_each_row_is_on_the_disk_before_the_next(tmp_path):
    with RowLog(tmp_path / "log") as log:
        log.append({"a": 1})
        assert json.loads((tmp_path / "log").read_text()) == {"a": 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full: Linux has it")
def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="No space left") as caught, RowLog(Path("/dev/full")) as log:
        log.append({"a": 1})
    assert caught.value.filename == "/dev/full"

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(tmp_path / "x.json", {})
    assert caught.value.filename == str(tmp_path / "x.json")
    assert not list(tmp_path.iterdir())
