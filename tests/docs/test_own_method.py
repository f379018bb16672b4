"""The contributor's guide to a method in a package of one's own, followed to the letter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from della_bench.cli import main
from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec, registry
from della_bench.spec import method as contract

GUIDE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SPEC = re.findall(r"della-bench spec '(.*merge_method=stripes.*)'", GUIDE)[0]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the guide's package: the module of the contract's docstring, by the entry point of the guide."""
    text = contract.__doc__ or ""
    source = dedent(text[text.index("    # stripes.py") : text.index("From then on")])
    line = re.findall(r'^stripes = "(.*)"$', GUIDE, re.MULTILINE)[0]
    assert f'stripes = "{line}"' in text  # the guide's file and the contract's are the same
    (tmp_path / "stripes.py").write_text(source)
    info = tmp_path / "stripes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stripes\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nstripes = {line}\n")
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "stripes", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_guides_package_can_be_installed_so_that_it_is_edited_where_it_lies(tmp_path):
    """By pip as the guide says, into a folder that is thrown away."""
    project, into = tmp_path / "stripes", tmp_path / "into"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        re.findall(r"`stripes/pyproject.toml`:\n\n```toml\n(.*?)```", GUIDE, re.S)[0]
    )
    (project / "stripes.py").write_text("METHOD = None\n")
    (line,) = re.findall(r"^pip (install .*)$", GUIDE, re.MULTILINE)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", *line.split()]
    done = subprocess.run([*pip, "--no-deps", "--prefix", into], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = into.rglob("*.pth")
    assert path.read_text().strip() == str(project)
    (points,) = into.rglob("entry_points.txt")
    assert "stripes = stripes:METHOD" in points.read_text()


@pytest.mark.usefixtures("installed")
def test_the_guides_method_is_listed_explained_suggested_and_merged_by(capsys):
    assert "stripes" in shown(capsys, "methods")
    assert "in package stripes" in shown(capsys, "spec", SPEC)
    with pytest.raises(SpecError, match="did you mean 'stripes'"):
        MergeSpec.parse(SPEC.replace("stripes", "stripe"))
    with pytest.raises(SpecError, match="did you mean 'width'"):
        MergeSpec.parse(SPEC.replace("width", "with"))
    merge = Merge(MergeSpec.parse(SPEC))
    name = next(name for name in merge.names if name.endswith("up_proj.weight"))
    base = merge.base.tensor(name).to_torch()
    rows = (merge.tensor(name) != base).any(dim=1).long()
    assert torch.equal(rows, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).repeat(len(rows) // 8 + 1)[: len(rows)])
