"""One step of a run: one task of lm-eval on the loaded model, its results and samples put in place whole."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from della_bench.benchmarks import benchmark_of
from della_bench.errors import DataError
from della_bench.jsonfiles import read_json
from della_bench.results.samples import UNFINISHED
from della_bench.run.advice import advice_on_answers
from della_bench.run.answers import AnswerLog
from della_bench.run.evaluated import Evaluated, samples_path, tasks_of
from della_bench.run.settings import EvalSettings
from della_bench.spec import MergeSpec

__all__ = ["ask", "evaluate", "put_files", "put_results"]

_STAGING = ".lm_eval.partial"


def evaluate(
    model: Any,
    spec: MergeSpec,
    task: Any,
    folder: Path,
    settings: EvalSettings,
    *,
    record: Mapping[str, Any],
    manager: Any,
    fingerprint: str,
    unsafe: bool,
    batch_size: object = None,
    device: str | None = None,
    answers: AnswerLog | None = None,
    advice: Mapping[str, str] | None = None,
) -> Evaluated:
    """Evaluate one task, or one group of tasks, and put lm-eval's results and samples into `folder`, the results last.

    task: as lm-eval has built it; it can be evaluated any number of times with the same settings. settings: how it is
    asked, its samples by lm-eval's names. record: all that the evaluation depends on, as JSON has it;
    `find_evaluated` compares it. manager: lm-eval's TaskManager. unsafe: whether tasks that run the model's programs
    may do so. batch_size, device: the model's, to be written down. answers: listens to the model; what it counts is
    written down, too, beside the `advice` that the model was given. Raises what lm-eval raises, and DataError where its
    files could not be written.
    """
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(_fresh_staging(folder) / "results.json"))
    results = ask(
        model,
        [task],
        settings,
        manager=manager,
        unsafe=unsafe,
        batch_size=batch_size,
        device=device,
        tracker=tracker,
    )
    samples = results.pop("samples")
    ours = {**model.get_model_info()["della_bench"], "model_fingerprint": fingerprint, "run": dict(record)}
    if answers is not None:
        _mark_unfinished(samples, answers)
        given = {**(advice or {}), **advice_on_answers(benchmark_of(_name(task)), answers, batch_size)}
        ours |= {"answers": answers.summary(), "advice": given}
    return put_results(folder, _name(task), spec, results, samples, ours=ours, tracker=tracker)


def ask(
    model: Any,
    tasks: Sequence[Any],
    settings: EvalSettings,
    *,
    manager: Any,
    unsafe: bool,
    batch_size: object = None,
    device: str | None = None,
    tracker: Any = None,
) -> dict[str, Any]:
    """Return what lm-eval gives for built tasks, with the samples by task under `samples`; nothing is written.

    The arguments are those of `evaluate`. Raises what lm-eval raises.
    """
    import lm_eval

    with _surroundings_described_once():
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=list(tasks),
            task_manager=manager,
            num_fewshot=settings.num_fewshot,
            gen_kwargs=dict(settings.gen_kwargs) or None,
            apply_chat_template=settings.apply_chat_template,
            fewshot_as_multiturn=settings.multiturn,
            system_instruction=settings.system_instruction,
            limit=settings.limit,
            samples=None if settings.samples is None else {name: list(ids) for name, ids in settings.samples.items()},
            predict_only=settings.predict_only,
            log_samples=True,
            evaluation_tracker=tracker,
            batch_size=batch_size,
            device=device,
            confirm_run_unsafe_code=unsafe,
            **settings.seeds,
        )
    if results is None:
        names = ", ".join(map(_name, tasks))
        raise DataError(f"{names}: lm-eval gave no results (is this a helper process of several?)")
    return dict(results)


def put_results(
    folder: Path,
    name: str,
    spec: MergeSpec,
    results: dict[str, Any],
    samples: Mapping[str, Sequence[dict[str, Any]]],
    *,
    ours: Mapping[str, Any],
    tracker: Any = None,
) -> Evaluated:
    """Put what lm-eval gave for one task, or one group of tasks, into `folder` as it writes it, the results last.

    results: without the samples, which stand in `samples` by task. ours: what the model says of itself, with its
    `model_fingerprint` and what the `run` depends on. Raises DataError where the files could not be written.
    """
    from lm_eval.loggers import EvaluationTracker

    staging = folder / _STAGING
    tracker = tracker or EvaluationTracker(output_path=str(_fresh_staging(folder) / "results.json"))
    results["config"] |= {"model": "della_merged", "model_args": spec.as_keys(), "della_bench": dict(ours)}
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in samples:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return _put_in_place(staging, folder, name, results)


def _fresh_staging(folder: Path) -> Path:
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    return staging


def put_files(folder: Path, task: str, files: Mapping[str, bytes]) -> Evaluated:
    """Put the files of an evaluation that another process has made into `folder`, the results last.

    Raises DataError where they are not whole.
    """
    staging = _fresh_staging(folder)
    staging.mkdir(parents=True)
    for name, content in files.items():
        (staging / Path(name).name).write_bytes(content)
    written = sorted(staging.glob("results_*.json"))
    return _put_in_place(staging, folder, task, read_json(written[0]) if written else {})


@contextmanager
def _surroundings_described_once() -> Iterator[None]:
    """Let lm-eval describe machine and checkout in the first results, and repeat that in the others.

    It asks pip, lscpu, git and others after each evaluation, which takes longer than a small benchmark; and where there
    is no checkout, git says so on the terminal.
    """
    from lm_eval import evaluator
    from torch.utils import collect_env

    machine = collect_env.get_pretty_env_info
    commit = evaluator.get_git_commit_hash
    collect_env.get_pretty_env_info = _remembering(machine)
    evaluator.get_git_commit_hash = _commit
    try:
        yield
    finally:
        collect_env.get_pretty_env_info = machine
        evaluator.get_git_commit_hash = commit


_remembering = cache(cache)  # gives for one function always the same one that remembers


@cache
def _commit() -> str | None:
    """Return what lm-eval's `get_git_commit_hash` does: the commit of the working directory's checkout."""
    from lm_eval.loggers.utils import get_commit_from_path

    try:
        described = subprocess.run(["git", "describe", "--always"], capture_output=True, text=True, check=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        fallback: str | None = get_commit_from_path(Path.cwd())
        return fallback
    return described.stdout.strip()


def _mark_unfinished(samples: Mapping[str, list[dict[str, Any]]], answers: AnswerLog) -> None:
    """Mark the samples whose answers never left their thoughts, by their prompts."""
    for rows in samples.values():
        for row in rows:
            if any(str(arguments[0]) in answers.unfinished for arguments in row["arguments"]):
                row[UNFINISHED] = True


def _put_in_place(staging: Path, folder: Path, task: str, value: Mapping[str, Any]) -> Evaluated:
    """Move the staged files up, the results last: with them the evaluation is complete."""
    written = sorted(staging.glob("results_*.json"))
    if len(written) != 1 or not all(samples_path(written[0], name).is_file() for name in tasks_of(value, task)):
        raise DataError(f"{folder}: lm-eval could not write its results (see its warnings; is the disk full?)")
    results = folder / written[0].name
    for name in tasks_of(value, task):
        samples_path(written[0], name).replace(samples_path(results, name))
    written[0].replace(results)
    shutil.rmtree(staging, ignore_errors=True)
    return Evaluated(results, task, value)


def _name(task: Any) -> str:
    """Return what lm-eval's results call a task or a group of tasks."""
    return str(getattr(task, "task_name", None) or task.name)
