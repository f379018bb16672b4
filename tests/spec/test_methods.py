from __future__ import annotations

import pytest

from della_bench.spec.methods import METHODS
from tests.merge.oracle import DELTA_RULES, RULES, WHOLE_RULES


def test_the_table_has_the_authors_methods_and_no_other():
    assert set(METHODS) == set(RULES)
    assert (len(DELTA_RULES), len(WHOLE_RULES)) == (25, 3)


@pytest.mark.parametrize("name", DELTA_RULES)
def test_a_row_is_what_the_authors_name_means(name):
    row, rule = METHODS[name], DELTA_RULES[name]
    found = (row.kind, row.drop, row.rescale, row.elect, row.normalize, row.scaling)
    assert found == ("delta", rule.drop, rule.rescale, rule.elect, rule.normalize, rule.scaling)


@pytest.mark.parametrize("name", WHOLE_RULES)
def test_a_method_on_whole_weights_drops_and_elects_nothing(name):
    row = METHODS[name]
    assert (row.kind, row.drop, row.rescale, row.elect, row.scaling) == (name, "none", "none", "none", "none")
    assert row.normalize == (name == "linear")


def test_a_row_is_kept_under_its_own_name_with_a_source():
    assert all(row.name == name and row.summary and row.source for name, row in METHODS.items())


def test_which_numbers_a_method_needs_follows_from_its_drop():
    needs = {name: (row.drops, row.magprune, row.random) for name, row in METHODS.items()}
    assert needs["task_arithmetic"] == needs["nodrop_ada_row"] == needs["slerp"] == (False, False, False)
    assert needs["ties"] == needs["ties_row"] == (True, False, False)
    assert needs["dare_linear"] == (True, False, True)
    assert needs["della"] == needs["della_norank"] == needs["della_layer_norm"] == (True, True, True)
