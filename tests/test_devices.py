"""A device that is not there is an error before anything is put on another one."""

from __future__ import annotations

import pytest
import torch

from della_bench import load_merged
from della_bench.cli import main
from della_bench.devices import require_device
from della_bench.errors import UsageError
from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.models.hf import DellaMergedLM
from della_bench.spec import MergeSpec
from tests.models.lm import keys

ABSENT = f"cuda:{torch.cuda.device_count()}"


@pytest.mark.parametrize("name", ["cpu", "cpu:0", torch.device("cpu")])
def test_the_cpu_is_there(name):
    require_device(name)


@pytest.mark.parametrize("name", [ABSENT, "cuda:99", "gpu", "cuda:x", "meta", ""])
def test_what_is_not_there_or_no_device_is_named(name):
    with pytest.raises(UsageError, match="device") as caught:
        require_device(name)
    assert str(name) in str(caught.value)


def test_no_model_type_falls_back_to_the_cpu_without_a_word(family):
    with pytest.raises(UsageError, match=ABSENT):
        DellaMergedLM(**keys(family, "a"), device=ABSENT)
    with pytest.raises(UsageError, match=ABSENT):
        load_merged(keys(family, "a"), device=ABSENT)


def test_nothing_is_written_or_replaced_for_a_device_that_is_not_there(family, tmp_path, capsys):
    spec = MergeSpec.parse(keys(family, "a"))
    write_folder(Merge(spec), tmp_path / "merged", progress=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()}
    with pytest.raises(SystemExit) as ended:
        main(["merge", str(spec), "-o", str(tmp_path / "merged"), "--overwrite", "--device", ABSENT])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"della_bench: error: --device: {ABSENT}: torch sees")
    assert {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
