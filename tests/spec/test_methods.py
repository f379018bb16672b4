from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest

from della_bench.spec.keys import KEYS
from della_bench.spec.methods import AUTHORS_METHODS, METHODS
from della_bench.spec.option import Option
from tests.merge.oracle import DELTA_RULES, RULES, WHOLE_RULES


def test_the_table_has_the_authors_methods_and_no_other():
    assert {row.name for row in AUTHORS_METHODS} == set(RULES)
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
    assert needs["ties"] == needs["ties_row"] == needs["dare_linear"] == (True, False, True)
    assert needs["della"] == needs["della_norank"] == needs["della_layer_norm"] == (True, True, True)


def test_methods_of_the_authors_code_come_first_and_others_have_a_version():
    names = [row.name for row in AUTHORS_METHODS]
    assert list(METHODS)[: len(names)] == names
    assert {name for name, row in METHODS.items() if not row.version} == set(names)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if row.version])
def test_a_method_with_a_function_of_its_own_loads_it_from_a_file_of_its_own(name):
    row = METHODS[name]
    function = row.function() or row.drop_function()
    assert function is not None
    module = import_module(function.__module__)
    assert module.__name__.startswith("della_bench.merge.methods.")
    assert function.__name__ in module.__all__


@pytest.mark.parametrize("key", [*KEYS, "config"])
def test_no_method_gives_another_meaning_to_a_key_that_all_specs_have(key):
    with pytest.raises(ValueError, match=key):
        Option(key, "something else")


@pytest.mark.parametrize("name", ["", "Gamma", "a-b", "1st", "a=b"])
def test_the_name_of_an_option_fits_into_the_spec_string(name):
    with pytest.raises(ValueError, match="small letters"):
        Option(name, "something")


def test_options_need_a_function_that_reads_them_and_names_of_their_own():
    one = Option("gamma", "a share")
    with pytest.raises(ValueError, match="no function"):
        replace(METHODS["ties"], options=(one,))
    with pytest.raises(ValueError, match="twice"):
        replace(METHODS["breadcrumbs"], options=(one, one))
