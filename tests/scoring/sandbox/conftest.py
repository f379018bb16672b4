from __future__ import annotations

from typing import Any

import pytest

from della_bench.errors import SandboxError
from della_bench.scoring.sandbox import Level, Limits, Outcome, Program, find_level, run


@pytest.fixture(scope="session")
def level() -> Level:
    try:
        return find_level()
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def judge(level: Level):
    """Return a function that runs one candidate against tests."""

    def judged(code: str, *tests: str, setup: str = "", in_one_namespace: bool = False, **limits: Any) -> Outcome:
        [outcome] = run(
            [Program("it", code, tests, setup)],
            Limits(**{"cpu_seconds": 2, "memory_bytes": 256 << 20, **limits}),
            level=level,
            in_one_namespace=in_one_namespace,
        )
        return outcome

    return judged
