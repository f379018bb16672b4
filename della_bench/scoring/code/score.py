"""`della-bench score mbpp|humaneval`: a file of answers becomes verdicts, items and one score."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from della_bench import __version__
from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, RowLog
from della_bench.lock import file_lock
from della_bench.results.logged import score_of_items
from della_bench.results.places import place_score
from della_bench.results.schema import SCHEMA, Item, Score, Scorer, items_path, score_path, write_score
from della_bench.scoring.code import bigcode
from della_bench.scoring.code.answers import Answers, partial_run, read_answers
from della_bench.scoring.code.parallel import spread
from della_bench.scoring.code.passk import detail_of, unequal
from della_bench.scoring.code.problems import Problem, load_problems
from della_bench.scoring.code.verdicts import Judged, Settings, find_program, judge
from della_bench.scoring.sandbox import VERDICTS, Level, find_level

if TYPE_CHECKING:
    from typing_extensions import NotRequired

__all__ = ["export_programs", "score_code"]

log = logging.getLogger(__name__)


def score_code(
    benchmark: str,
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    filter_name: str | None = None,
    settings: Settings | None = None,
    limit: int | None = None,
    known_partial: bool = False,
    model: str | None = None,
    replace: bool = False,
) -> Score:
    """Run the answers in `path` to `benchmark` (mbpp or humaneval), write items and score below `out`, return it.

    filter_name: of an lm-eval log whose filters differ, the one to read. limit: of the problems that have an answer,
    the first so many. model, replace: as `place_score` takes them. The items grow as programs end; the score is
    written when all have ended. Problems that the file has no answer to are left out, and a warning says so, unless it
    is known_partial: whoever calls asked for a part.

    The scorer is called `sandbox`, or `bigcode` with that harness's semantics, and has `-authors` behind its name with
    the authors' post-processing, so that none overwrites another. The value is pass@1 in percent: the mean over
    problems of the share of a problem's answers that pass. What the sandbox could not run counts neither as right nor
    as wrong; a problem of which no answer could be run is unscored. A problem with an empty list of candidates is
    wrong; with bigcode's semantics it is left out, and `detail` also has the metric file of that harness.

    Raises DataError for the file or the data set, or where another process scores into the same items, and SandboxError
    where no level of isolation holds, before anything is written.
    """
    settings, path, out = settings or Settings(), Path(path), Path(out)
    if not path.exists():  # told before what may have to be downloaded
        raise DataError(f"{path}: cannot be read: {os.strerror(errno.ENOENT)}", exit_code=USERS_FILE)
    problems = load_problems(benchmark)
    answers = read_answers(path, benchmark, problems, filter_name=filter_name, limit=limit)
    level = find_level(allow_unsafe=settings.allow_unsafe)
    log.info("running programs in sandbox level %s", level.name)
    if level.name == "none":
        log.warning("no sandbox works here: programs run with limits only, as was allowed")
    if not known_partial and (remark := partial_run(path, problems, answers)):
        log.warning("%s", remark)
    scorer = Scorer(name=_scorer_name(settings), version=__version__, model=None)
    chosen = [
        (problem, group)
        for problem, group in zip(problems, answers.of_problem, strict=True)
        if group or (group is not None and not settings.compat)
    ]
    name = place_score(out, benchmark, scorer["name"], path, model=model, replace=replace)
    with _only_writer(items_path(out, benchmark, name)):
        # From here on the old number is no longer that of the items beside it.
        score_path(out, benchmark, name).unlink(missing_ok=True)
        items: list[Item] = []
        with RowLog(items_path(out, benchmark, name), fresh=True) as rows:

            def done(position: int, judged: list[Judged]) -> None:
                items.append(_item(chosen[position][0], answers.filter, judged))
                rows.append(items[-1])

            verdicts = judge([p for p, _ in chosen], [group for _, group in chosen], settings, level, done)
        score = score_of_items(benchmark, "pass@1", scorer, items)
        left_out = [p.key for p, group in zip(problems, answers.of_problem, strict=True) if group == []]
        if settings.compat and left_out:
            log.warning(
                "%d of %d problems have no candidates and are left out of the mean", len(left_out), len(problems)
            )
        score["detail"] = _detail(path, answers, verdicts, settings, level) | {
            "problems": len(problems),
            "in_file": sum(group is not None for group in answers.of_problem),
            "left_out": left_out if settings.compat else [],
            "place": name,
        }
        for note in score["detail"]["notes"]:
            log.warning("%s", note)
        if settings.compat:
            counts = [_counts(group) for group in verdicts]
            score["detail"]["bigcode"] = bigcode.metrics(
                benchmark, counts, _bigcode_config(benchmark, path, counts, settings)
            )
        write_score(out, score, name)
    return score


@contextmanager
def _only_writer(items: Path) -> Iterator[None]:
    """Let no other process score into the same items. Raises DataError where one does."""
    with file_lock(items) as is_free:
        if not is_free:
            raise DataError(f"{items}: another process is scoring into it; wait for it, or take another --out")
        yield


def export_programs(
    benchmark: str,
    path: Path,
    to: Path,
    *,
    filter_name: str | None = None,
    settings: Settings | None = None,
    limit: int | None = None,
) -> int:
    """Write the programs that would be run as bigcode-evaluation-harness's generations; return how many.

    Nothing is run. A problem that the file has no answer to gets an empty list, which that harness leaves out of its
    mean. Raises DataError as `score_code` does.
    """
    problems = load_problems(benchmark)
    answers = read_answers(path, benchmark, problems, filter_name=filter_name, limit=limit)
    extraction = (settings or Settings()).extraction
    groups = [group or () for group in answers.of_problem]
    calls = [(p, answer, extraction) for p, group in zip(problems, groups, strict=True) for answer in group]
    programs = iter(spread(find_program, calls, [len(answer.text) for _, answer, _ in calls]))
    bigcode.write_generations(to, [[next(programs).program for _ in group] for group in groups])
    return len(calls)


class ProgramItem(Item):
    """One problem's row; `rule` says how its program was found in the reply.

    Of several answers `answers` has each, and the others are the first one's. `own_word` counts those that passed by
    their own word alone.
    """

    task_id: str
    rule: str
    answers: NotRequired[list[dict[str, object]]]
    own_word: NotRequired[int]


def _scorer_name(settings: Settings) -> str:
    name = "bigcode" if settings.compat else "sandbox"
    return f"{name}-authors" if settings.extraction == "authors" else name


def _item(problem: Problem, filter_name: str, judged: Sequence[Judged]) -> ProgramItem:
    n, passed = _counts(judged)
    first = judged[0] if judged else Judged("", "none", "empty", "no candidate")
    item: ProgramItem = {
        "schema": SCHEMA,
        "doc_id": problem.doc_id,
        "doc_hash": problem.doc_hash,
        "filter": filter_name,
        "value": passed / n if n else None if judged else 0.0,
        "verdict": first.verdict,
        "answer": first.program,
        "explanation": first.explanation,
        "task_id": problem.key,
        "rule": first.rule,
    }
    if len(judged) > 1:
        item["verdict"] = "unscored" if not n else "passed" if passed == n else "mixed" if passed else "failed"
        item["explanation"] = f"{passed} of {n} answers passed"
        item["answers"] = [one.row() for one in judged]
    if any(one.by_own_word for one in judged):
        item["own_word"] = sum(one.by_own_word for one in judged)
    return item


def _counts(judged: Sequence[Judged]) -> tuple[int, int]:
    """Return (answers that were run, those that passed)."""
    return sum(one.passed is not None for one in judged), sum(one.passed is True for one in judged)


def _detail(
    path: Path, answers: Answers, verdicts: Sequence[Sequence[Judged]], settings: Settings, level: Level
) -> dict[str, Any]:
    every = [one for group in verdicts for one in group]
    counts = [_counts(group) for group in verdicts]
    counted = Counter(one.verdict for one in every)
    counted["empty"] += sum(not group for group in verdicts)
    return {
        "samples": path.name,
        "samples_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": answers.format,
        "filter": answers.filter,
        "answers": len(every),
        "by_its_own_word": sum(one.by_own_word for one in every),
        "verdicts": {verdict: counted[verdict] for verdict in VERDICTS if counted[verdict]},
        **detail_of(counts),
        "notes": [*answers.notes, *filter(None, [unequal(counts)])],
        "extraction": {
            "mode": settings.extraction,
            "rules": dict(sorted(Counter(one.rule for one in every).items())),
        },
        "sandbox": {
            "level": level.name,
            "refused": dict(level.refused),
            "isolate": settings.isolate,
            "limits": {
                **asdict(settings.limits),
                "wall_seconds": settings.limits.wall,
                "idle_seconds": settings.limits.idle,
            },
        },
        "compat": "bigcode" if settings.compat else None,
        "python": platform.python_version(),
    }


def _bigcode_config(
    benchmark: str, path: Path, counts: Sequence[tuple[int, int]], settings: Settings
) -> dict[str, Any]:
    return {
        "tasks": benchmark,
        "n_samples": max((n for n, _ in counts), default=0),
        "load_generations_path": str(path),
        "allow_code_execution": True,
        "timeout": settings.limits.cpu_seconds,
        "scorer": f"della-bench {__version__}",
    }
