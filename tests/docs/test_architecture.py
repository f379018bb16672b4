"""ARCHITECTURE.md shows the rooms as the test of their order holds them."""

from __future__ import annotations

import re

from tests.docs.blocks import PROJECT
from tests.test_rooms import ROOMS


def test_the_table_of_rooms_is_the_order_that_imports_keep():
    text = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text[text.index("| room |") : text.index("`tasks/`")]
    shown = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:] if line]
    assert shown == [rooms - {"_version"} for rooms in ROOMS]
