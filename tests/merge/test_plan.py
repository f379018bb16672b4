"""What a merge's numbers lack is told when its sources are opened, before any weight is read."""

from __future__ import annotations

import logging

import pytest

from della_bench.checkpoint.files import SafetensorsFile
from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch):
    monkeypatch.setattr(SafetensorsFile, "tensor", lambda *_: pytest.fail("a weight was read"))


def opened(**keys: object) -> Merge:
    return Merge(MergeSpec.parse(keys, base="zoo:base", experts="zoo:math", merge_method="ties", density=0.5))


def test_a_filter_that_matches_nothing_is_warned_of_with_the_names_that_there_are(caplog):
    rules = [{"filter": "self_atn", "value": 1}, {"filter": "mlp", "value": 2}, {"value": 3}]
    with caplog.at_level(logging.WARNING, logger="della_bench.merge.plan"):
        opened(weights=[rules])
    (message,) = [message for message in caplog.messages if "filter" in message]
    assert message.startswith("filter self_atn is part of no tensor's name; there are model.")
    assert message.endswith("and 35 more")


def test_tensors_without_a_rule_are_told_together():
    with pytest.raises(SpecError) as caught:
        opened(**{"lambda": [{"filter": "proj", "value": 2}]})
    (fault,) = caught.value.faults
    assert fault.startswith("lambda: no rule is for tensor model.")
    assert "more; give a last one without a pattern" in fault
