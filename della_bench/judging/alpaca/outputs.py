"""The answers to be judged: out of lm-eval's samples or a file in alpaca_eval's format, in the baseline's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_rows
from della_bench.judging.alpaca.reference import Reference
from della_bench.results.places import whose
from della_bench.results.samples import choose_filter, is_sample_row, read_samples, refuse_results

__all__ = ["STOPS", "Answer", "Answers", "cut_answer", "read_answers"]

STOPS = ("</s>", "USER:", "ASSISTANT:")  # of the Vicuna template; tasks/alpaca_eval stops at the same


@dataclass(frozen=True)
class Answer:
    """One answer: `position` is its instruction's in the baseline; `doc_id` and `doc_hash` are its sample's."""

    position: int
    output: str
    doc_id: int
    doc_hash: str


@dataclass(frozen=True)
class Answers:
    """A model's answers in the baseline's order. `filter` is lm-eval's, empty where the file is alpaca_eval's own."""

    generator: str
    filter: str
    rows: tuple[Answer, ...]


def cut_answer(text: str) -> str:
    """Return `text` up to the first of STOPS, without the blanks around it."""
    ends = [text.find(stop) for stop in STOPS]
    return text[: min((end for end in ends if end >= 0), default=len(text))].strip()


def read_answers(
    path: Path, reference: Reference, *, name: str | None = None, filter_name: str | None = None
) -> Answers:
    """Return the answers in `path`, by the instruction they answer and whatever their order.

    Answers in lm-eval's samples end at the first of STOPS; those of a file in alpaca_eval's format are taken as they
    are. `name` is what the model is called; by default what the file, or lm-eval's results beside it, call it,
    or the folder that it lies in.

    Raises DataError where a row is of another task or answers an instruction that the baseline does not have, where an
    instruction stands twice, and where a file holds several models' answers.
    """
    refuse_results(path)
    for _, row in read_rows(path):
        return (
            _of_samples(path, reference, name, filter_name) if is_sample_row(row) else _of_list(path, reference, name)
        )
    raise DataError(f"{path}: no answers", exit_code=USERS_FILE)


def _of_samples(path: Path, reference: Reference, name: str | None, filter_name: str | None) -> Answers:
    answers: dict[int, Answer] = {}
    samples = choose_filter(path, read_samples(path), filter_name)
    for sample in samples:
        place = f"{path}, line {sample.line}: doc_id {sample.doc_id}"
        if len(sample.responses) != 1:
            message = f"{place}: {len(sample.responses)} responses, and AlpacaEval judges one"
            raise DataError(message, exit_code=USERS_FILE)
        position = _position(place, sample.doc, reference, answers)
        answer = cut_answer(sample.responses[0])
        answers[position] = Answer(position, answer, sample.doc_id, sample.doc_hash or reference.doc_hashes[position])
    return Answers(name or _model_of(path), samples[0].filter, tuple(answers[each] for each in sorted(answers)))


def _model_of(samples: Path) -> str:
    """Return what lm-eval's results call the model, else the samples' folder."""
    known = whose(samples.resolve())
    return samples.resolve().parent.name if known is None else known.name


def _of_list(path: Path, reference: Reference, name: str | None) -> Answers:
    answers: dict[int, Answer] = {}
    generators: dict[str, int] = {}
    for line, row in read_rows(path):
        place = f"{path}, row {line}"
        output = row.get("output")
        if not isinstance(output, str):
            message = (
                f"{place}: neither a sample of lm-eval nor a row of alpaca_eval's format, which has instruction, "
                f"output, generator (it has: {', '.join(map(repr, row)) or 'nothing'})"
            )
            raise DataError(message, exit_code=USERS_FILE)
        position = _position(place, row, reference, answers)
        answers[position] = Answer(position, output, position, reference.doc_hashes[position])
        generators.setdefault(str(row.get("generator", "")), line)
    if len(generators) > 1:
        (first, _), (second, line), *_ = generators.items()
        message = f"{path}, row {line}: generator {second!r}, but {first!r} before it: one model a file"
        raise DataError(message, exit_code=USERS_FILE)
    return Answers(name or next(iter(generators)) or path.stem, "", tuple(answers[each] for each in sorted(answers)))


def _position(place: str, row: Mapping[str, object], reference: Reference, answers: dict[int, Answer]) -> int:
    instruction = row.get("instruction")
    if not isinstance(instruction, str):
        has = ", ".join(map(repr, row)) or "nothing"
        message = f"{place}: no instruction: is this another task's? (it has: {has})"
        raise DataError(message, exit_code=USERS_FILE)
    position = reference.positions.get(instruction)
    if position is None:
        message = f"{place}: the baseline {reference.name} has no instruction {_short(instruction)}"
        raise DataError(message, exit_code=USERS_FILE)
    if position in answers:
        raise DataError(f"{place}: {_short(instruction)} is answered twice in this file", exit_code=USERS_FILE)
    return position


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
