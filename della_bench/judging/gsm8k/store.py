"""The files of one judging: what is settled is there at once, and is found again by the next run.

scores/gsm8k.<judge>.items.jsonl             one row an answer, appended as it is settled
scores/gsm8k.<judge>/judgements.jsonl        one row a reply of the judge, whole, appended as it comes
scores/gsm8k.<judge>/labelled.csv            the table that the DELLA authors' script writes
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypedDict, cast

from della_bench.errors import DataError, JudgeError
from della_bench.jsonfiles import RowLog, read_rows, write_whole
from della_bench.judging.gsm8k.read import Answer
from della_bench.judging.gsm8k.rows import GSM8KItem
from della_bench.judging.reply import Reply
from della_bench.results.schema import items_path, read_items

__all__ = ["BENCHMARK", "JudgementFacts", "Store", "judge_folder", "labelled_csv", "made_from", "write_tables"]

BENCHMARK = "gsm8k"
_COLUMNS = ("instruction", "target", "output", "template_label", "last_num_label", "comments", "gpt4_annotation")
_LABELS = {True: "positive", False: "negative", None: "CantAnnotate"}


class JudgementFacts(TypedDict):
    """What a row of judgements.jsonl says of a reply beside the reply itself: who was asked what, the how manieth time.

    `version` is the judge's, `asked_model` the name that the server was asked for.
    """

    judge: str
    version: str
    doc_id: int
    vote: int
    swapped: bool
    attempt: int
    asked_model: str


class Store:
    """The files of one judge below `out`; a context manager."""

    def __init__(self, out: Path, judge: str) -> None:
        """Open the files; what a killed run left unfinished in them is cut off. Raises JudgeError."""
        self._out, self._judge = out, judge
        self.items = items_path(out, BENCHMARK, judge)
        self.judgements = judge_folder(out, judge) / "judgements.jsonl"
        try:
            self._items, self._judgements = RowLog(self.items), RowLog(self.judgements)
            self._logged = {str(row.get("key")) for _, row in read_rows(self.judgements)}
        except OSError as error:
            raise _disk(self.items, error) from error

    def settled(self) -> dict[int, GSM8KItem]:
        """Return the rows that are there already, by document; a later row takes an earlier one's place."""
        try:
            return {row["doc_id"]: cast(GSM8KItem, row) for row in read_items(self.items)}
        except DataError:  # another release's: they are made again, out of the cache
            return {}

    def add_judgement(self, reply: Reply, facts: JudgementFacts) -> None:
        """Write one reply of the judge down, once. Raises JudgeError where the disk takes no more."""
        if reply.key in self._logged:
            return
        self._append(self._judgements, {**facts, **reply.as_row()})
        self._logged.add(reply.key)

    def add_item(self, row: GSM8KItem) -> None:
        """Write one settled answer down. Raises JudgeError where the disk takes no more."""
        self._append(self._items, row)

    def finish(self, answers: Sequence[Answer], rows: Sequence[GSM8KItem]) -> None:
        """Put the items in order, and write the authors' table. Raises JudgeError where the disk takes no more."""
        self._items.close()
        write_tables(self._out, self._judge, answers, rows)

    def _append(self, log: RowLog, row: Mapping[str, object]) -> None:
        try:
            log.append(row)
        except OSError as error:
            raise _disk(log.path, error) from error

    def __enter__(self) -> Store:  # noqa: D105
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Close the files."""
        for log in (self._items, self._judgements):
            try:
                log.close()
            except OSError:
                if error is None:
                    raise


def judge_folder(out: Path, judge: str) -> Path:
    """Return the folder of a judge's own files."""
    return items_path(out, BENCHMARK, judge).with_name(f"{BENCHMARK}.{judge}")


def write_tables(out: Path, judge: str, answers: Sequence[Answer], rows: Sequence[GSM8KItem]) -> None:
    """Write the items, in their order, and labelled.csv. Raises JudgeError where the disk takes no more."""
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    items = items_path(out, BENCHMARK, judge)
    try:
        write_whole(items, text)
        write_whole(judge_folder(out, judge) / "labelled.csv", labelled_csv(answers, rows))
    except OSError as error:
        raise _disk(items, error) from error


def _disk(path: Path, error: OSError) -> JudgeError:
    return JudgeError(
        f"{error.filename or path}: cannot be written ({error.strerror or error}); what was answered is kept in the "
        "cache: mend this and run the same command again"
    )


def made_from(judge: str, version: str, server: str, votes: int, answer: Answer) -> str:
    """Return the name of all that an answer's row depends on: a row with another one is made again."""
    whole = [judge, version, server, votes, answer.question, answer.target, answer.response]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def labelled_csv(answers: Sequence[Answer], rows: Sequence[GSM8KItem]) -> str:
    """Return the table of the DELLA authors' judge script: their columns, and their words for the labels."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for answer, row in zip(answers, rows, strict=True):
        value = None if row["value"] is None else bool(row["value"])
        comments = f"{row['explanation']}\n\n[Evaluated text] {answer.response}"
        template, last_number = (_LABELS[answer.metrics[name]] for name in ("strict-match", "flexible-extract"))
        table.writerow(
            (answer.question, answer.target, answer.response, template, last_number, comments, _LABELS[value])
        )
    return text.getvalue()
