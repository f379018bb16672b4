"""docs/methods.md has a row for each method with a version, and says of it what the table says."""

from __future__ import annotations

import re

from della_bench.spec.methods import METHODS
from tests.docs.blocks import PROJECT

PAGE = (PROJECT / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = {
    row[0].strip("`"): row[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for row in [[cell.strip() for cell in line.strip("|").split("|")]]
    if len(row) == 6  # the table of names that mean something else has fewer columns
}


def test_the_page_lists_the_methods_that_have_a_version():
    assert list(ROWS) == [name for name, method in METHODS.items() if method.version]


def test_it_says_how_many_experts_a_method_takes_and_whether_its_bits_are_pinned():
    for name, (_, _, experts, pinned, _) in ROWS.items():
        method = METHODS[name]
        some = "any" if method.least_experts == 1 else f"{method.least_experts} or more"
        assert (experts, pinned) == (str(method.experts or some), "yes" if method.pinned else "no"), name


def test_it_names_every_key_of_a_methods_own_with_its_default():
    for name, (_, keys, *_) in ROWS.items():
        shown = {key: value or None for key, value in re.findall(r"`(\w+)(?:=([\w.-]+))?`", keys)}
        shown.pop("epsilon", None)  # mergekit's name for one
        for option in METHODS[name].options:
            value = shown.pop(option.name)
            if option.kind is bool:
                assert value == str(option.default).lower()
            else:
                assert (None if value is None else float(value)) == option.default
        assert not shown, name
