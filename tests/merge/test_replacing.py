"""What stands where a merge is to be written: replaced only where the program wrote it, and nothing else is in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from della_bench.errors import UsageError
from della_bench.merge.folder import write_folder
from della_bench.merge.replacing import MARK, put_in_place
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec


@pytest.fixture
def merge(family):
    keys = {"merge_method": "task_arithmetic", "base": str(family["base"]), "experts": [str(family["a"])]}
    return Merge(MergeSpec.parse(keys))


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refuses(merge: Merge, out: Path, reason: str, watched: Path) -> None:
    before = everything(watched)
    with pytest.raises(UsageError, match=reason) as refusal:
        write_folder(merge, out, overwrite=True, progress=False)
    assert refusal.value.exit_code == 2
    assert everything(watched) == before


def test_a_folder_of_ours_is_replaced_when_that_is_allowed(merge, tmp_path):
    out = write_folder(merge, tmp_path / "out", progress=False)
    (out / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="exists already"):
        write_folder(merge, out, progress=False)
    assert (out / "config.json").read_text() == "{}"
    write_folder(merge, out, overwrite=True, progress=False)
    assert (out / "config.json").read_text() != "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_written_to(merge, tmp_path):
    (tmp_path / "out").mkdir()
    assert (write_folder(merge, tmp_path / "out", progress=False) / MARK).is_file()


@pytest.mark.parametrize("name", ["", ".", "..", "../.."])
def test_the_working_directory_and_what_holds_it_are_never_replaced(merge, tmp_path, monkeypatch, name):
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    refuses(merge, Path(name), "working directory", tmp_path)
    (here / "thesis.tex").touch()
    refuses(merge, Path(name), "working directory", tmp_path)


def test_the_home_is_never_replaced(merge, tmp_path, monkeypatch):
    out = write_folder(merge, tmp_path / "home", progress=False)
    monkeypatch.setenv("HOME", str(out))
    refuses(merge, out, "your home", tmp_path)


def test_a_mount_point_is_never_replaced(merge, tmp_path, monkeypatch):
    out = write_folder(merge, tmp_path / "out", progress=False)
    monkeypatch.setattr(Path, "is_mount", lambda self: self == out)
    refuses(merge, out, "mount point", tmp_path)


def test_a_link_is_never_replaced(merge, tmp_path):
    out = write_folder(merge, tmp_path / "out", progress=False)
    (tmp_path / "link").symlink_to(out)
    refuses(merge, tmp_path / "link", "is a link", tmp_path)


@pytest.mark.parametrize("above", [False, True], ids=["the source", "a folder above it"])
def test_an_input_of_the_merge_is_never_replaced(family, tmp_path, above):
    """Even one that this program wrote, as when a merge is merged again."""
    source = tmp_path / "inputs" / "a"
    shutil.copytree(family["a"], source)
    keys = {"merge_method": "task_arithmetic", "base": str(family["base"]), "experts": [str(source)]}
    refuses(Merge(MergeSpec.parse(keys)), source.parent if above else source, "holds a source", tmp_path)


def test_a_folder_that_is_none_of_ours_is_kept(merge, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    refuses(merge, out, f"holds no {MARK}", tmp_path)
    (out / MARK).write_text("[]")
    refuses(merge, out, f"holds no {MARK}", tmp_path)


def test_a_file_is_kept(merge, tmp_path):
    (tmp_path / "out").write_text("mine")
    refuses(merge, tmp_path / "out", "it is a file", tmp_path)


@pytest.mark.parametrize("added", ["notes.md", "runs/1/log"])
def test_a_folder_of_ours_that_somebody_added_to_is_kept(merge, tmp_path, added):
    out = write_folder(merge, tmp_path / "out", progress=False)
    (out / added).parent.mkdir(parents=True, exist_ok=True)
    (out / added).write_text("mine")
    refuses(merge, out, f"did not write: {added.partition('/')[0]}", tmp_path)


def test_the_old_folder_stays_where_the_new_one_cannot_be_put(merge, tmp_path):
    out = write_folder(merge, tmp_path / "out", progress=False)
    before = everything(tmp_path)
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "not there", out)
    assert everything(tmp_path) == before


def test_a_merge_that_fails_leaves_the_old_folder(merge, tmp_path, monkeypatch):
    out = write_folder(merge, tmp_path / "out", progress=False)
    before = everything(tmp_path)

    def broken(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("della_bench.merge.folder._write_config", broken)
    with pytest.raises(OSError, match="No space left"):
        write_folder(merge, out, overwrite=True, progress=False)
    assert everything(tmp_path) == before
