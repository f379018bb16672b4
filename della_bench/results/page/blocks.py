"""The items behind the cells, packed: a page of 100,000 answers must open at once, so each cell unpacks when asked."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from della_bench.errors import DataError
from della_bench.results.items import joined_items
from della_bench.results.table import Cell, Row

__all__ = ["Packed", "pack", "pack_items"]


class ItemsBlock(TypedDict):
    """One cell's items as columns: `doc` places among the benchmark's documents, `own` prompts by position.

    `told` is the verdict in words, by position, where a judge preferred one of two answers.
    """

    doc: list[int]
    value: list[float | None]
    verdict: list[str]
    answer: list[str | None]
    response: list[str]
    why: list[str]
    own: dict[str, str]
    told: dict[str, str]


@dataclass
class Packed:
    """`blocks` by their ids in the page; `cells` the block of each (row, benchmark), or why it has none."""

    blocks: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[int, str], str] = field(default_factory=dict)
    reasons: dict[tuple[int, str], str] = field(default_factory=dict)


def pack(value: object) -> str:
    """Return a JSON value as base64 of its zlib-compressed text, which a browser reads with DecompressionStream.

    Lone surrogates, which UTF-8 does not have, become JSON's own escapes.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("utf-8", "backslashreplace"), 6)).decode("ascii")


def pack_items(
    rows: Sequence[Row], benchmarks: Sequence[str], sampled: Sequence[int], *, progress: bool = False
) -> Packed:
    """Pack the items of the rows in the places `sampled`, cell by cell; prompts and references once a benchmark.

    A cell whose files cannot be read has its reason instead. progress: show a bar on stderr.
    """
    from tqdm import tqdm

    packed, chosen = Packed(), set(sampled)
    bar = tqdm(
        total=len(benchmarks) * len(rows), desc="Packing samples", unit="cell", disable=not progress, leave=False
    )
    for column, name in enumerate(benchmarks):
        documents: dict[tuple[int, str], int] = {}
        prompts: list[str] = []
        targets: list[str] = []
        for index, row in enumerate(rows):
            bar.update()
            cell = row.cells.get(name)
            if cell is None or row.reference:
                continue
            if index not in chosen:
                packed.reasons[index, name] = "this page does not hold the samples of this row"
            elif cell.keys is None:
                packed.reasons[index, name] = "no samples were logged (lm-eval logs them with log_samples)"
            else:
                try:
                    block = _cell_block(cell, documents, prompts, targets)
                except DataError as error:
                    packed.reasons[index, name] = f"the samples cannot be read: {error}"
                    continue
                packed.cells[index, name] = f"items-{index}-{column}"
                packed.blocks[f"items-{index}-{column}"] = pack(block)
        if prompts:
            ids = [doc_id for doc_id, _ in documents]
            packed.blocks[f"documents-{column}"] = pack({"id": ids, "prompt": prompts, "target": targets})
    bar.close()
    return packed


def _cell_block(
    cell: Cell, documents: dict[tuple[int, str], int], prompts: list[str], targets: list[str]
) -> ItemsBlock:
    """Return one cell's items as columns; `own` has the prompts that differ from the documents' by position.

    An answer is None where it is the whole response.
    """
    block: ItemsBlock = {
        "doc": [],
        "value": [],
        "verdict": [],
        "answer": [],
        "response": [],
        "why": [],
        "own": {},
        "told": {},
    }
    for position, item in enumerate(joined_items(cell)):
        number = documents.setdefault((item.doc_id, item.doc_hash), len(documents))
        if number == len(prompts):
            prompts.append(item.prompt)
            targets.append(item.target)
        elif not prompts[number]:
            prompts[number] = item.prompt
        if item.prompt and item.prompt != prompts[number]:
            block["own"][str(position)] = item.prompt
        block["doc"].append(number)
        block["value"].append(item.value)
        block["verdict"].append(item.verdict)
        block["answer"].append(None if item.answer == item.response else item.answer)
        block["response"].append(item.response)
        block["why"].append(item.explanation)
        if item.told:
            block["told"][str(position)] = item.told
    return block
