"""Reading what a mergekit YAML says."""

import pytest
import yaml

from della_bench.errors import SpecError
from della_bench.spec import MergeSpec


@pytest.fixture
def read(tmp_path):
    def parse(data, *, beside=""):
        path = tmp_path / "merge.yml"
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data), encoding="utf-8")
        return MergeSpec.parse(f"config={path}{beside}")

    return parse


@pytest.fixture
def faults(read, tmp_path):
    def found(data):
        with pytest.raises(SpecError) as caught:
            read(data)
        where = f"config={tmp_path / 'merge.yml'}: "
        assert all(line.startswith(where) for line in caught.value.faults), caught.value.faults
        return [line.removeprefix(where) for line in caught.value.faults]

    return found
