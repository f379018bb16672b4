"""tools/install.py: uv does what pip was told, and pip where uv cannot."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PATH = Path(__file__).parent.parent / "tools" / "install.py"


@pytest.fixture
def install() -> Any:
    spec = spec_from_file_location("install", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_pip_is_told_of_where_packages_lie_counts_for_uv_and_the_environment_before_files(install: Any) -> None:
    listed = (
        ":env:.find-links='/mine'\n"
        "global.find-links='/wheels /more'\n"
        "global.extra-index-url='https://a/simple\\nfile:///b/simple'\n"
        "global.timeout='60'\n"
    )
    assert install.settings_for_uv(listed) == {
        "UV_FIND_LINKS": "/mine",
        "UV_INDEX": "https://a/simple file:///b/simple",
    }
    assert install.settings_for_uv("") == {}


@pytest.mark.parametrize("broken", [["pip", "install", "-q", "uv"], ["uv", "pip", "install", "-q"]])
def test_where_uv_is_not_to_be_had_or_fails_it_says_so_to_who_asks_pip(
    install: Any, broken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def run(command: list[str], **_: Any) -> Any:
        started.append(command[2:])
        return SimpleNamespace(returncode=int(command[2 : 2 + len(broken)] == broken), stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    assert install.by_uv(["torch"]) is False
    assert started[-1][: len(broken)] == broken


def test_uv_installs_into_the_python_that_runs_it_with_pips_arguments(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def run(command: list[str], **_: Any) -> Any:
        started.append(command)
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(subprocess, "run", run)
    assert install.by_uv(["-c", "constraints.txt", "torch"]) is True
    assert started[-1][-5:] == ["--python", sys.executable, "-c", "constraints.txt", "torch"]
