"""Replacing what stands where a merge is to be written: only a folder that we wrote, and only what we put into it.

A folder that `write_folder` wrote holds a mark, `della_bench.json`, with the spec and the names of all files beside it.
A folder without the mark, or with a file that the mark does not name, holds something of the user's, and is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import della_bench
from della_bench.errors import UsageError
from della_bench.spec import MergeSpec

__all__ = ["MARK", "check_replaceable", "put_in_place", "write_mark"]

MARK = "della_bench.json"
_SHOWN = 3  # names in a message


def write_mark(folder: Path, spec: MergeSpec) -> None:
    """Leave the mark in a folder that is otherwise complete."""
    mark = {
        "della_bench": della_bench.__version__,
        "spec": str(spec),
        "digest": spec.digest,
        "files": sorted([MARK, *(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())]),
    }
    text = json.dumps(mark, indent=2, ensure_ascii=False) + "\n"
    (folder / MARK).write_text(text, encoding="utf-8")


def check_replaceable(out: Path, sources: Iterable[Path], *, overwrite: bool) -> None:
    """Raise UsageError, which says why, where a merge may not be written to `out`.

    What is not there and an empty folder may be written to, a folder that holds anything only with `overwrite` and by
    the rule above. The working directory, the home, a mount point, a folder above one of these, and a folder with one
    of the merge's `sources` in it may never be, empty or not.
    """
    if reason := _why_never(out, sources):
        raise UsageError(f"{out}: {reason}; choose another folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        if reason := _why_kept(out):
            raise UsageError(f"{out}: exists already, and is never replaced: {reason}; choose another folder")
        raise UsageError(f"{out}: exists already; choose another one, or replace it (--overwrite)")
    if reason := _why_kept(out):
        raise UsageError(f"{out}: is not replaced: {reason}")


def put_in_place(partial: Path, out: Path) -> None:
    """Rename `partial` to `out`; what stands there goes only once that is done, and stays where it cannot be."""
    if not out.exists():
        partial.rename(out)
        return
    aside = Path(mkdtemp(prefix=f".{out.name}.", suffix=".replaced", dir=out.absolute().parent))
    out.rename(aside / out.name)
    try:
        partial.rename(out)
    except BaseException:
        (aside / out.name).rename(out)
        raise
    finally:
        rmtree(aside)


def _why_never(out: Path, sources: Iterable[Path]) -> str:
    """Return why nothing may be written in the place of `out`, or ""."""
    if out == Path():
        return "an empty name, or the working directory itself"
    if out.is_symlink():
        return "is a link, not a folder"
    place = out.resolve()
    guarded = {"the working directory": Path.cwd(), "your home": Path(os.path.expanduser("~"))}
    for what, folder in guarded.items():
        if folder.resolve().is_relative_to(place):
            return f"is {what}, or holds it"
    if place.is_mount():
        return "is a mount point"
    for source in sources:
        if source.resolve().is_relative_to(place):
            return f"holds a source of this merge ({source})"
    return ""


def _why_kept(out: Path) -> str:
    """Return why what stands at `out` may not be replaced, or ""."""
    if not out.is_dir():
        return "it is a file"
    try:
        named = json.loads((out / MARK).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"it holds no {MARK}, so that it was not written by this program"
    ours = {out / name for name in named}
    ours |= {folder for file in ours for folder in file.parents}
    strangers = sorted(
        path.relative_to(out).as_posix()
        for path in out.rglob("*")
        if path not in ours or path.is_symlink() or not (path.is_file() or path.is_dir())
    )
    if strangers:
        more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
        return f"it holds what this program did not write: {', '.join(strangers[:_SHOWN])}{more}"
    return ""
