"""A merge as a checkpoint folder, for those who want to keep it: the one place that writes weights to disk."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from della_bench.checkpoint import HostTensor, TensorInfo
from della_bench.checkpoint.tensor import ITEM_SIZES, Bytes
from della_bench.devices import require_device
from della_bench.errors import MergeError
from della_bench.merge.card import make_card
from della_bench.merge.companions import check_companions, copy_companions
from della_bench.merge.config import merged_config
from della_bench.merge.output import ALIGNMENT, Output
from della_bench.merge.replacing import check_replaceable, put_in_place, write_mark
from della_bench.merge.stream import Merge, is_cpu
from della_bench.results.table import Row

__all__ = ["write_folder"]


def write_folder(
    merge: Merge,
    out: Path,
    *,
    device: str = "cpu",
    max_shard_bytes: int = 5 * 10**9,
    overwrite: bool = False,
    progress: bool = True,
    scores: Row | None = None,
) -> Path:
    """Write the merge with config, tokenizer and a model card as a folder that transformers and vLLM load.

    It is written beside its final name and renamed when it is whole, so that a folder of that name is always complete.
    Tensors go to disk one at a time, as they are merged.

    scores: the merge's row of a leaderboard, for the card (`card.scores_of`).
    With `overwrite` a folder is replaced that this function wrote and that nobody has added to (see `replacing`).

    Raises UsageError where there is no such device or what stands at `out` has to stay, CheckpointError where the
    tokenizer has ids that the merge has no rows for, MergeError (naming the tensor) where the disk fails; nothing is
    left behind then.
    """
    out = Path(out)
    require_device(device)
    check_replaceable(out, merge.folders, overwrite=overwrite)
    check_companions(merge)
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=parent))
    try:
        _write_weights(merge, partial, device, max_shard_bytes, progress)
        _write_config(merge, partial)
        copy_companions(merge, partial)
        (partial / "README.md").write_text(make_card(merge, scores), encoding="utf-8")
        write_mark(partial, merge.spec)
        partial.chmod(0o777 & ~_umask())
        put_in_place(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def _write_weights(merge: Merge, folder: Path, device: Any, max_shard_bytes: int, progress: bool) -> None:
    infos = {name: merge.info(name) for name in merge.names}
    shards = _plan(infos, max_shard_bytes)
    files = ["model.safetensors"]
    if len(shards) > 1:
        files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        index = {
            "metadata": {"total_size": sum(info.nbytes for info in infos.values())},
            "weight_map": {name: file for file, names in zip(files, shards, strict=True) for name in names},
        }
        _write_json(folder / "model.safetensors.index.json", index)
    what = f"Merging by {merge.spec.merge_method}"
    with tqdm(total=len(infos), desc=what, unit="tensor", disable=not progress) as bar:
        for file, names in zip(files, shards, strict=True):
            _write_shard(folder / file, {name: infos[name] for name in names}, merge, device, bar.update)


def _plan(infos: dict[str, TensorInfo], max_bytes: int) -> list[list[str]]:
    """Split the names, in order, into shards of at most `max_bytes` (one tensor at least)."""
    shards: list[list[str]] = []
    bytes_left = 0
    for name, info in infos.items():
        if not shards or info.nbytes > bytes_left:
            shards.append([])
            bytes_left = max_bytes
        shards[-1].append(name)
        bytes_left -= info.nbytes
    return shards


def _write_shard(
    path: Path, infos: dict[str, TensorInfo], merge: Merge, device: Any, advance: Callable[[], Any]
) -> None:
    """Write one safetensors file: the header's length (8 bytes, little-endian), the header, the tensors' bytes.

    safetensors' own writer wants all tensors of a file in memory at once. Blanks behind the header let the tensors
    begin where they can be written as they lie in memory, those of whole pages before the others; of these, the widest
    dtypes come first, which keeps every tensor aligned.
    """
    names = sorted(infos, key=lambda name: (infos[name].nbytes % ALIGNMENT != 0, -ITEM_SIZES[infos[name].dtype]))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "della_bench": str(merge.spec)}}
    end = 0
    for name in names:
        start, end = end, end + infos[name].nbytes
        header[name] = {"dtype": infos[name].dtype, "shape": list(infos[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with _named(path, "the file"), Output(path) as file, ThreadPoolExecutor(1, "della_bench-writer") as writer:
        file.write(len(text).to_bytes(8, "little") + text)
        written: Future[None] | None = None
        for name, data in _merged(merge, device, names):
            if written:
                written.result()
                advance()
            written = writer.submit(_write, file, path, name, data)
            del data
        if written:
            written.result()
            advance()
        with _named(path, f"tensor {names[-1]}" if names else "the header"):
            file.finish()


def _merged(merge: Merge, device: Any, names: list[str]) -> Iterator[tuple[str, Bytes]]:
    if is_cpu(device):
        for name, host in merge.stream_host(names):
            yield name, host.data
            del host
    else:
        for name, tensor in merge.stream(device, names):
            yield name, HostTensor.of(tensor.cpu()).data
            del tensor


def _write(file: Output, path: Path, name: str, data: Bytes) -> None:
    with _named(path, f"tensor {name}"):
        file.write(data)


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MergeError(f"{path.name}: writing {what} failed: {error.strerror or error}") from error


def _write_config(merge: Merge, folder: Path) -> None:
    _write_json(folder / "config.json", merged_config(merge))


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
