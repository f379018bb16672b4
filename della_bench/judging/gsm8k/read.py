"""What is judged: GSM8K answers that lm-eval logged, or a plain file of question, target and response."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_rows
from della_bench.judging.gsm8k.exact import flexible_extract, strict_match
from della_bench.judging.json_types import JsonObject
from della_bench.results.samples import Sample, choose_filter, is_sample_row, logged_texts, read_samples, refuse_results

__all__ = ["DOCUMENTS", "METRICS", "Answer", "Answers", "read_answers"]

DOCUMENTS = 1319  # of GSM8K's test split
_READERS = {"strict-match": strict_match, "flexible-extract": flexible_extract}
METRICS = tuple(_READERS)
_PLAIN = ("question", "target", "response")


@dataclass(frozen=True)
class Answer:
    """One response to one problem; `logged` is what METRICS say of it, as far as that is in the file."""

    doc_id: int
    doc_hash: str
    filter: str
    question: str
    target: str
    response: str
    logged: Mapping[str, bool]

    @cached_property
    def metrics(self) -> dict[str, bool]:
        """Whether each of METRICS calls it right: as logged, or computed when it is first asked for."""
        return {
            name: self.logged[name] if name in self.logged else read(self.response, self.target)
            for name, read in _READERS.items()
        }


@dataclass(frozen=True)
class Answers:
    """The answers of a file by `doc_id`; `sources` says of each metric whether it was `logged` or `computed` here.

    `missing` are the documents of the data set that the file lacks, `repeated` how many problems stand in it again.
    """

    path: Path
    answers: list[Answer]
    sources: dict[str, str]
    missing: list[int]
    repeated: int

    @property
    def remark(self) -> str | None:
        """What the counts show to be amiss, None where the file holds each document once, and mostly answers."""
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} of GSM8K's {DOCUMENTS} documents are missing")
        if self.repeated:
            parts.append(f"{self.repeated} problems are repeated")
        if 2 * (empty := sum(not answer.response.strip() for answer in self.answers)) > len(self.answers):
            parts.append(f"{empty} of {len(self.answers)} responses are empty")
        return f"{self.path}: {' and '.join(parts)}" if parts else None


def read_answers(path: Path, *, wanted_filter: str | None = None, limit: int | None = None) -> Answers:
    """Return the answers of `path`, the first `limit` of them.

    lm-eval's samples (JSON Lines, or the one array of older releases) are taken by document and filter: one row of
    each document is judged, the metrics of all filters stand beside it. Rows with question, target and response (and
    doc_id, where there is one) are taken as they are.

    Raises DataError where the file is none of these, holds another task, or a document twice.
    """
    refuse_results(path)
    rows = list(read_rows(path))
    if not rows:
        raise DataError(f"{path}: no rows", exit_code=USERS_FILE)
    if is_sample_row(rows[0][1]):
        answers, sources = _from_samples(path, rows, wanted_filter)
    elif all(key in rows[0][1] for key in _PLAIN):
        answers, sources = _from_plain(path, rows), dict.fromkeys(METRICS, "computed")
    else:
        has = ", ".join(map(repr, list(rows[0][1])[:12])) or "none"
        raise DataError(
            f"{path}: neither samples of lm-eval (doc_id, doc, resps) nor rows with question, target and response "
            f"(its first row has: {has})",
            exit_code=USERS_FILE,
        )
    answers.sort(key=lambda answer: answer.doc_id)
    there = {answer.doc_id for answer in answers}
    missing = [doc_id for doc_id in range(DOCUMENTS) if doc_id not in there]
    repeated = len(answers) - len({answer.question for answer in answers})
    return Answers(path, answers[:limit], sources, missing, repeated)


def _from_plain(path: Path, rows: Sequence[tuple[int, JsonObject]]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    for position, (line, row) in enumerate(rows):
        texts = {key: text for key in _PLAIN if isinstance(text := row.get(key), str)}
        faults = [key for key in _PLAIN if key not in texts]
        if faults:
            message = f"{path}, line {line}: {', '.join(map(repr, faults))} must be there and be text"
            raise DataError(message, exit_code=USERS_FILE)
        doc_id = row.get("doc_id", position)
        if not isinstance(doc_id, int) or isinstance(doc_id, bool):
            raise DataError(f"{path}, line {line}: doc_id must be a number, got {doc_id!r}", exit_code=USERS_FILE)
        if doc_id in answers:
            raise DataError(f"{path}, line {line}: doc_id {doc_id} stood there already", exit_code=USERS_FILE)
        question, target, response = (texts[key] for key in _PLAIN)
        doc_hash = hashlib.sha256(f"{question}\0{target}".encode(errors="surrogatepass")).hexdigest()
        answers[doc_id] = Answer(doc_id, doc_hash, "none", question, target, response, {})
    return list(answers.values())


def _from_samples(
    path: Path, rows: Sequence[tuple[int, JsonObject]], wanted: str | None
) -> tuple[list[Answer], dict[str, str]]:
    samples = _unnamed_filters(rows) or read_samples(path)
    chosen = choose_filter(path, samples, wanted)
    logged: dict[str, dict[int, bool]] = {}
    for sample in samples:
        value = sample.row.get("exact_match")
        if sample.filter in METRICS and isinstance(value, (int, float)):
            logged.setdefault(sample.filter, {})[sample.doc_id] = bool(value)
    answers = [_answer(path, sample, logged) for sample in chosen]
    sources = {name: "logged" if name in logged else "computed" for name in METRICS}
    return answers, sources


def _answer(path: Path, sample: Sample, logged: dict[str, dict[int, bool]]) -> Answer:
    place = f"{path}, line {sample.line}: doc_id {sample.doc_id}"
    question, reference = sample.doc.get("question"), sample.doc.get("answer")
    target = sample.target if isinstance(sample.target, str) else reference
    # GSM8K's own mark; another task with questions and answers has none.
    if not isinstance(question, str) or not isinstance(target, str) or "####" not in f"{reference}{target}":
        raise DataError(
            f"{place}: not a document of GSM8K (a question, and an answer with ####): is this another task's file?",
            exit_code=USERS_FILE,
        )
    if len(sample.responses) != 1:
        raise DataError(f"{place}: {len(sample.responses)} responses, and one is judged", exit_code=USERS_FILE)
    found = {name: values[sample.doc_id] for name, values in logged.items() if sample.doc_id in values}
    return Answer(sample.doc_id, sample.doc_hash, sample.filter, question, target, sample.responses[0], found)


def _unnamed_filters(rows: Sequence[tuple[int, JsonObject]]) -> list[Sample]:
    """Return the samples of an old log that has each document once for each filter and does not name them; else [].

    With two rows a document they are METRICS, in the order in which the task declares them.
    """
    if any("filter" in row for _, row in rows):
        return []
    times = Counter(row.get("doc_id") for _, row in rows)
    if set(times.values()) != {len(METRICS)}:
        return []
    seen: Counter[object] = Counter()
    samples = []
    for line, row in rows:
        doc_id, doc, resps = row.get("doc_id"), row.get("doc"), row.get("resps")
        texts = logged_texts(resps)
        if not isinstance(doc_id, int) or not isinstance(doc, dict) or len(texts) != 1:
            return []  # the reader of samples says what is wrong
        name = METRICS[seen[doc_id]]
        seen[doc_id] += 1
        samples.append(Sample(doc_id, name, doc, row.get("target"), texts, [], "", line, row))
    return samples
