"""What can be known to be wrong before the first merge, looked for before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from della_bench.benchmarks import Benchmark
from della_bench.checkpoint import resolve
from della_bench.errors import DellaBenchError, Faults, SpecError, UsageError
from della_bench.merge.stream import Merge
from della_bench.run.generation import check_generation
from della_bench.run.options import Options
from della_bench.run.prompts import tokenizer_with_template
from della_bench.run.scorers import scorers_of
from della_bench.run.settings import EvalSettings
from della_bench.run.tasks import Tasks
from della_bench.spec import MergeSpec, Source

__all__ = [
    "cannot_be_run",
    "check_all",
    "check_asked",
    "check_engine",
    "check_scorers",
    "check_settings",
    "check_templates",
    "unusable",
]


def check_all(
    specs: Sequence[MergeSpec], tasks: Tasks, options: Options, *, engine_here: bool = True
) -> dict[str, list[str]]:
    """Raise one error with all that can be known to be wrong of a run's engine, settings, templates, scorers and tasks.

    engine_here: whether the engine runs on this machine. Returns what `check_templates` does.
    """
    faults = Faults()
    if engine_here:
        faults.of(lambda: check_engine(specs[0], options), None)
    nobody: dict[str, list[str]] = {}
    templates = faults.of(lambda: check_asked(specs, _settings(tasks), options), nobody)
    faults.of(lambda: check_scorers(tasks.benchmarks, options), None)
    faults.of(tasks.build, None)  # now, while nothing is written; else when a step turns out to be undone
    faults.raise_them()
    return templates


def check_settings(specs: Sequence[MergeSpec], tasks: Tasks, options: Options) -> None:
    """Raise one error with all that is wrong with how benchmarks are asked, whether or not their data are here.

    So a run can be planned on a machine that lacks the data, the engine or a judge.
    """
    faults = Faults()
    faults.of(lambda: check_asked(specs, _settings(tasks), options), None)
    faults.of(tasks.check_settings, None)
    faults.raise_them()


def check_asked(specs: Sequence[MergeSpec], settings: Sequence[EvalSettings], options: Options) -> dict[str, list[str]]:
    """Raise one error with wrong generation arguments and missing templates, for which no task need be known.

    Returns what `check_templates` does.
    """
    faults, nobody = Faults(), dict[str, list[str]]()
    faults.of(lambda: check_generation(settings, options.engine), None)
    templates = faults.of(lambda: check_templates(specs, settings, options), nobody)
    faults.raise_them()
    return templates


def _settings(tasks: Tasks) -> list[EvalSettings]:
    return [tasks.settings(row) for row in tasks.benchmarks]


def check_engine(spec: MergeSpec, options: Options) -> None:
    """Raise SpecError or UsageError where the engine, its arguments or the device cannot be had for any spec."""
    arguments: dict[str, Any] = {**spec.as_keys(), **options.arguments}
    if options.engine == "vllm":
        from della_bench.models.vllm_engine.requirements import require_vllm

        require_vllm()
        from della_bench.models.vllm import DellaMergedVLLM

        DellaMergedVLLM.check(arguments)
        return
    from della_bench.models.hf import DellaMergedLM

    DellaMergedLM.check(arguments)


def check_templates(
    specs: Sequence[MergeSpec], settings: Sequence[EvalSettings], options: Options
) -> dict[str, list[str]]:
    """Return whose chat templates the models are asked through, each with the names of these models.

    Raises SpecError with every spec whose tokenizer lacks the template that it is to be asked through.
    """
    faults: dict[str, None] = {}
    chosen: dict[str, list[str]] = {}
    remote = bool(options.arguments.get("trust_remote_code"))
    for wanted in dict.fromkeys(each.apply_chat_template for each in settings if each.apply_chat_template):
        for spec in specs:
            try:
                _, whose = tokenizer_with_template(spec, wanted, trust_remote_code=remote)
                names = chosen.setdefault(str(whose), [])
                names += [] if spec.display_name in names else [spec.display_name]
            except SpecError as error:
                faults |= dict.fromkeys(error.faults)
            except DellaBenchError:  # a source that cannot be opened is told of by `unusable`
                continue
    if faults:
        raise SpecError(list(faults))
    return chosen


def check_scorers(benchmarks: Sequence[Benchmark], options: Options) -> None:
    """Raise UsageError with all that the benchmarks' scorers lack to score new answers: judges, keys, servers, prices,
    data, a sandbox.
    """
    faults = []
    for row in benchmarks:
        for scorer in scorers_of(row):
            if scorer.check is not None:
                try:
                    scorer.check(options)
                except DellaBenchError as error:
                    faults.append((error.exit_code, f"{row.name}: {error}"))
    if faults:
        code = max(code for code, _ in faults)
        raise UsageError("\n".join(dict.fromkeys(text for _, text in faults)), exit_code=code)


def unusable(
    specs: Sequence[MergeSpec], options: Options, *, download: bool = True
) -> dict[MergeSpec, DellaBenchError]:
    """Return the specs whose sources cannot be opened or do not fit together, each with the reason.

    download: whether weights may be fetched from the hub; else it is asked only whether it has the sources, if it can
    be reached, and what fits is told of specs whose sources are all here.
    """
    found: dict[MergeSpec, DellaBenchError] = {}
    remote = bool(options.arguments.get("trust_remote_code"))
    for spec in specs:
        try:
            if download or all(map(_is_here, spec.models)):
                Merge(spec, trust_remote_code=remote)
                continue
            faults = Faults()
            for part in dict.fromkeys(part for source in spec.models for part in (source, source.adapter) if part):
                faults.of(partial(resolve, part, weights=False, trust_remote_code=remote), None)
            faults.raise_them()
        except DellaBenchError as error:
            if download or error.exit_code == UsageError.exit_code:  # else the hub could not be asked
                found[spec] = error
    return found


def cannot_be_run(found: Mapping[MergeSpec, DellaBenchError]) -> UsageError:
    """Return one error of what `unusable` has found."""
    lines = dict.fromkeys(f"{spec.display_name}: cannot be run: {error}" for spec, error in found.items())
    return UsageError("\n".join(lines), exit_code=max(error.exit_code for error in found.values()))


def _is_here(source: Source) -> bool:
    """Return whether a source lies in a folder of this machine, or comes with the package."""
    if source.scheme == "merge":
        return all(map(_is_here, MergeSpec.parse(source.place).models))
    place = source.place if source.revision is None else f"{source.place}@{source.revision}"
    try:
        here = source.scheme == "zoo" or Path(place).expanduser().is_dir()
    except (OSError, RuntimeError):  # a name too long, ~user where there is no such user
        return False
    return here and (source.adapter is None or _is_here(source.adapter))
