"""`della-bench merge`: the merge as a checkpoint folder."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Annotated

import typer

from della_bench.cli.spec import SpecArgument

__all__ = ["merge"]


def _bytes(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise typer.BadParameter("a size such as 5GB, 500MB or 2GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2].upper() or " "))


def merge(
    text: SpecArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.")],
    device: Annotated[str, typer.Option(help="Device to merge on.")] = "cpu",
    max_shard_size: Annotated[str, typer.Option(help="Most bytes of one safetensors file.")] = "5GB",
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a folder that this command wrote; nothing else is ever replaced."),
    ] = False,
    runs: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder with runs of this merge, whose scores go into the card; repeatable."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="ORG/NAME",
            help="Also upload the folder to a repository of the Hugging Face hub, private unless --public.",
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a new repository for --push public.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Take a repository's own Python code along.")
    ] = False,
) -> None:
    """Write a merge as a checkpoint folder that transformers and vLLM load.

    Evaluating a merge needs no such folder: lm_eval --model della_merged merges in memory.
    """
    shard_bytes = _bytes(max_shard_size)
    from della_bench.cli.console import paused_gc, say, show_warnings, start_numba

    with paused_gc():
        if device == "cpu":
            start_numba()
        from della_bench.merge.folder import write_folder
        from della_bench.merge.stream import Merge
        from della_bench.spec import MergeSpec

    show_warnings()
    logging.getLogger("della_bench.merge").setLevel(logging.INFO)
    merged = Merge(MergeSpec.parse(text), trust_remote_code=trust_remote_code)
    scores = None
    if runs:
        from della_bench.merge.card import scores_of

        scores = scores_of(merged, runs)
    if push is not None:
        from della_bench.merge.hub import check_pushable, push_folder

        check_pushable(push, overwrite=overwrite)
    write_folder(merged, out, device=device, max_shard_bytes=shard_bytes, overwrite=overwrite, scores=scores)
    say(f"{out}: {merged.spec}")
    if push is not None:
        say(push_folder(out, push, private=not public))
