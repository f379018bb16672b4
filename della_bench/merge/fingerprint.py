"""Which model a number belongs to: what a merge's spec does, together with its input files' contents.

A source is told by its files, each by its name and the SHA-256 of its contents, and never by where it lies: a copy, a
link or another machine's folder is the same source. The same tensors in another format (`.bin`, other shards) are
another source: so a file need not be read as tensors, and the hub's cache need not be read at all.

A file of the Hugging Face hub's cache that lies in large-file storage is named by its SHA-256 and is not read. The
digest of any other file is remembered by path and state (size, times, inode); that memory saves time and is no part of
anything else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.model import file_state
from della_bench.errors import DataError
from della_bench.jsonfiles import write_json
from della_bench.resources import cache_folder

if TYPE_CHECKING:
    from della_bench.merge.stream import Merge
    from della_bench.spec import MergeSpec

__all__ = ["InputFile", "Inputs", "digest_files", "file_digest", "fingerprint", "input_files"]

log = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 22
# A file changed this shortly before may change again within the same tick of the clock: its digest is not remembered.
_SETTLED_NS = 2_000_000_000

InputFile = tuple[str, Path]
"""What a file is to the merge ("base", "expert 0", "tokenizer", ...) and where it lies."""


class Inputs:
    """The input files' digests of one merge, hashed in a thread beside whatever reads the same files."""

    def __init__(self, merge: Merge) -> None:
        # Slices that are all layers of all sources say nothing: it is the same model without them.
        self._spec = merge.spec if merge.stacking else replace(merge.spec, slices=())
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digests")
        self._digests: Future[list[dict[str, Any]]] = pool.submit(digest_files, input_files(merge))
        pool.shutdown(wait=False)

    @property
    def files(self) -> list[dict[str, Any]]:
        """Role, name, path, bytes and SHA-256 of each file; waits for the hashing. Raises DataError."""
        return self._digests.result()

    @cached_property
    def fingerprint(self) -> str:
        """The model's fingerprint; waits for the hashing. Raises DataError."""
        return fingerprint(self._spec, self.files)


def fingerprint(spec: MergeSpec, digests: Sequence[Mapping[str, Any]]) -> str:
    """Return SHA-256 (hex) over what a spec does and its input files (as `digest_files` gives them).

    Neither the engine nor the place of the files is part of it: the same merge of the same contents is one model.
    """
    files = sorted([file["role"], file["name"], file["sha256"]] for file in digests)
    return hashlib.sha256(json.dumps([spec.recipe_digest, files]).encode()).hexdigest()


def input_files(merge: Merge) -> list[InputFile]:
    """Return the files that decide how a merge answers: weights, the base's configuration, tokenizer and template."""
    from della_bench.checkpoint import resolve
    from della_bench.checkpoint.tokenizers import tokenizer_files
    from della_bench.spec import Source
    from della_bench.spec.templates import AUTO, Template

    spec, base = merge.spec, merge.base
    files: list[InputFile] = base.inputs("base")
    files += [("config", path) for path in (base.folder / "config.json", *merge.settings_files)]
    for index, fit in enumerate(merge.fits):
        files += fit.expert.inputs(f"expert {index}")
    folders = {"tokenizer": base.tokenizer_folder}
    for role, choice in (("tokenizer", spec.tokenizer), ("chat_template", spec.chat_template)):
        if isinstance(choice, Source):
            folders[role] = base.tokenizer_folder if choice == spec.base else resolve(choice, weights=False)
    if spec.tokenizer is not None or spec.chat_template == Template(AUTO):
        folders["tokenizer of base"] = base.tokenizer_folder
        folders |= {f"tokenizer of expert {i}": fit.expert.tokenizer_folder for i, fit in enumerate(merge.fits)}
    for role, folder in folders.items():
        files += [(role, path) for path in tokenizer_files(folder, code=merge.trust_remote_code)]
    return [(role, path) for role, path in files if path.is_file()]


def digest_files(files: Sequence[InputFile]) -> list[dict[str, Any]]:
    """Return {role, name, path, bytes, sha256} of each file; a file that is there twice is read once."""
    digests: dict[Path, str] = {}
    out = []
    for role, path in files:
        if path not in digests:
            digests[path] = file_digest(path)
        size = path.stat().st_size
        out.append({"role": role, "name": path.name, "path": str(path), "bytes": size, "sha256": digests[path]})
    return out


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's contents.

    Raises DataError where it cannot be read, or where it changes while it is read.
    """
    real = Path(os.path.realpath(path))
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name
    try:
        before = file_state(real)
        remembered = _recall(real, before)
        if remembered:
            return remembered
        digest = _hash(real)
        after = file_state(real)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if before != after:
        raise DataError(f"{path}: changed while it was read; wait until it is written, then start again")
    _, _, changed, _ = after
    if time.time_ns() - changed > _SETTLED_NS:
        _remember(real, after, digest)
    return digest


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _memory(path: Path) -> Path:
    """Return the file that remembers the digest of `path`: one each, so that processes need no lock."""
    key = hashlib.sha256(os.fsencode(path)).hexdigest()
    return cache_folder() / "digests" / f"{key[:32]}.json"


def _recall(path: Path, state: tuple[int, ...]) -> str | None:
    try:
        known = json.loads(_memory(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    right = isinstance(known, dict) and (known.get("path"), known.get("state")) == (str(path), list(state))
    digest = str(known.get("sha256")) if right else ""
    return digest if _SHA256.fullmatch(digest) else None


def _remember(path: Path, state: tuple[int, ...], digest: str) -> None:
    try:
        write_json(_memory(path), {"path": str(path), "state": list(state), "sha256": digest})
    except OSError as error:
        log.warning("the digest of %s is not remembered: %s: %s", path, _memory(path), error.strerror or error)
