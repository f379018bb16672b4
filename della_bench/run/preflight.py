"""What can be known to be wrong before the first merge, looked for before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from della_bench.benchmarks import Benchmark
from della_bench.errors import DellaBenchError, UsageError
from della_bench.merge.stream import Merge
from della_bench.run.options import Options
from della_bench.run.scorers import scorers_of
from della_bench.spec import MergeSpec

__all__ = ["check_engine", "check_scorers", "unusable"]


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


def unusable(specs: Sequence[MergeSpec], options: Options) -> dict[MergeSpec, DellaBenchError]:
    """Return the specs whose sources cannot be opened or do not fit together, each with the reason."""
    found: dict[MergeSpec, DellaBenchError] = {}
    for spec in specs:
        try:
            Merge(spec, trust_remote_code=bool(options.arguments.get("trust_remote_code")))
        except DellaBenchError as error:
            found[spec] = error
    return found
