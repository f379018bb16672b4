"""The examples of the README and the docs, run as they stand: what a reader copies must work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import PAGES, Block, blocks

RUN = [block.parameter for page in PAGES for block in blocks(page) if block.is_run]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """A folder for each page, in which its examples are run one after the other, as a reader would."""
    return {page: tmp_path_factory.mktemp(page.stem) for page in PAGES}


@pytest.mark.slow
@pytest.mark.usefixtures("indexed_once")
@pytest.mark.parametrize("block", RUN)
def test_an_example_runs(
    block: Block, folders: dict[Path, Path], few_tasks: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[block.page])
    if block.language == "python":
        # Else lm-eval asks pip and the like about the machine each time, which takes longer than the answers.
        monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        source = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
        exec(source, {"__name__": "__main__"})
        return
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, **few_tasks, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", block.text], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def test_there_is_something_to_run() -> None:
    assert len(RUN) > 8
