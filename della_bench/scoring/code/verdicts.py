"""From answers to verdicts: the program of each answer is found, and all of them are run in the sandbox together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from della_bench.scoring.code.authors import authors_program
from della_bench.scoring.code.extract import Extracted, extract
from della_bench.scoring.code.parallel import spread
from della_bench.scoring.code.problems import Problem
from della_bench.scoring.sandbox import Level, Limits, Outcome, Verdict, run

__all__ = ["EXTRACTIONS", "Answer", "Extraction", "Form", "Judged", "Settings", "clean", "find_program", "judge"]

Form = Literal["reply", "completion", "program"]
Extraction = Literal["auto", "standard", "authors", "none"]
EXTRACTIONS: tuple[Extraction, ...] = get_args(Extraction)


@dataclass(frozen=True)
class Answer:
    """One answer to a problem.

    form: what the text is: a model's `reply`, with whatever it says beside the program; a `completion`, which goes on
    from the problem's prompt; or a `program`, which is run as it is.
    """

    text: str
    form: Form


@dataclass(frozen=True)
class Judged:
    """The program that was run for an answer, the rule that found it, and what became of it.

    own_word: what its tests asked an object of its own; where it passed with such, it did so by its own word.
    """

    program: str
    rule: str
    verdict: Verdict
    explanation: str
    own_word: tuple[str, ...] = ()

    @property
    def passed(self) -> bool | None:
        """Whether every test held; None where the sandbox, and not the program, is at fault."""
        return None if self.verdict == "sandbox" else self.verdict == "passed"

    @property
    def by_own_word(self) -> bool:
        """Whether it passed with what its own objects say about themselves."""
        return self.verdict == "passed" and bool(self.own_word)

    def row(self) -> dict[str, object]:
        """Return it as JSON data; `own_word` only where it passed by it."""
        row = asdict(self)
        if not self.by_own_word:
            del row["own_word"]
        return row


@dataclass(frozen=True)
class Settings:
    """How answers are read and run.

    extraction: `standard` (extract.py) or `authors` (authors.py) for every answer, `none` for none; `auto` reads
    replies by `standard` and leaves completions and programs as they are.
    compat: bigcode-evaluation-harness's semantics: candidate and tests are one program, without setup code.
    isolate, allow_unsafe, workers: as in `sandbox.run`.
    """

    extraction: Extraction = "auto"
    compat: bool = False
    isolate: bool = False
    allow_unsafe: bool = False
    workers: int | None = None
    limits: Limits = field(default_factory=Limits)


def find_program(problem: Problem, answer: Answer, extraction: Extraction = "auto") -> Extracted:
    """Return the program that is run for `answer`, and the rule that found it; `none` where it was left as it is."""
    if extraction == "none" or (extraction == "auto" and answer.form != "reply"):
        whole = answer.form == "program" or not answer.text.strip()
        return Extracted(answer.text if whole else problem.continued(answer.text), "none")
    if extraction == "authors":
        extracted = Extracted(authors_program(answer.text), "authors")
    else:
        extracted = extract(answer.text, problem.prompt, problem.asked)
    return Extracted(problem.continued(extracted.program), extracted.rule) if extracted.program.strip() else extracted


def judge(
    problems: Sequence[Problem],
    answers: Sequence[Sequence[Answer]],
    settings: Settings,
    level: Level,
    done: Callable[[int, list[Judged]], None] | None = None,
) -> list[list[Judged]]:
    """Return what became of each answer: one list a problem, in the order of `answers`.

    level: what `sandbox.find_level` returned. done: called with (position of the problem, its answers) as soon as all
    answers of a problem are judged, in whatever order they end.
    """
    from tqdm import tqdm

    jobs = [(position, place) for position, group in enumerate(answers) for place in range(len(group))]
    calls = [(problems[p], answers[p][place], settings.extraction) for p, place in jobs]
    extracted = spread(find_program, calls, [len(answer.text) for _, answer, _ in calls], settings.workers)
    programs = [
        problems[position].sandboxed(each.program, with_setup=not settings.compat)
        for (position, _), each in zip(jobs, extracted, strict=True)
    ]
    judged: list[dict[int, Judged]] = [{} for _ in answers]

    def in_order(position: int) -> list[Judged]:
        return [judged[position][place] for place in range(len(answers[position]))]

    with tqdm(total=len(jobs), desc="running programs", unit="program", disable=None, leave=False) as bar:

        def progress(index: int, outcome: Outcome) -> None:
            position, place = jobs[index]
            judged[position][place] = Judged(
                extracted[index].program,
                extracted[index].rule,
                outcome.verdict,
                clean(outcome.explanation),
                tuple(map(clean, outcome.own_word)),
            )
            bar.update()
            if done and len(judged[position]) == len(answers[position]):
                done(position, in_order(position))

        for position, group in enumerate(answers):
            if done and not group:
                done(position, [])
        run(
            programs,
            settings.limits,
            workers=settings.workers,
            isolate=settings.isolate,
            allow_unsafe=settings.allow_unsafe,
            level=level,
            in_one_namespace=settings.compat,
            progress=progress,
        )
    return [in_order(position) for position in range(len(answers))]


def clean(text: str) -> str:
    """Return `text` with U+FFFD for what JSON can spell and UTF-8 cannot hold: half of a surrogate pair."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
