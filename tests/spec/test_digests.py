"""A digest names a run's folder and what counts as done there: it stays, whatever keys are added to methods."""

from __future__ import annotations

import pytest

from della_bench.spec import MergeSpec, Option
from della_bench.spec.methods import METHODS
from tests.every_method import expert_count, needed_keys

# The first digits of each built-in method's digest, its keys at their defaults.
DIGESTS = {
    "task_arithmetic": "61ac1cea60f1",
    "nodrop_noelect": "1022474a90af",
    "nodrop_ada_layer": "3d06539174ec",
    "nodrop_ada_row": "276d1d9d9751",
    "nodrop_ada_row_inv": "d212abf54860",
    "dare_linear": "c640451e4c54",
    "dare_ties": "045a19de5d88",
    "dare_della": "984c273e1f10",
    "dare_noelect": "c0741d22c6e6",
    "dare_della_ada_layer": "94ebb0169002",
    "dare_della_ada_row": "abbcb0be154d",
    "dare_della_ada_row_inv": "d42d6fbf4c51",
    "ties": "0c0e96e8d8e0",
    "ties_row": "aeaf53aac49f",
    "ties_noelect": "9ae040008fde",
    "ties_ada_layer": "e17801c4f461",
    "ties_ada_row": "d03990790763",
    "ties_ada_row_inv": "c5e259747665",
    "della": "54fb56c869d6",
    "della_norank": "393a42b097d6",
    "della_layer_norm": "77d2a50a77b9",
    "della_noelect": "c225e5a5d01a",
    "della_ada_layer": "c16380145df0",
    "della_ada_row": "1bda54f4513a",
    "della_ada_row_inv": "481e09e0f016",
    "linear": "b324feec6aea",
    "slerp": "c3fc3f8d50f1",
    "passthrough": "84f3aafec13b",
    "breadcrumbs": "964dd38e1209",
    "breadcrumbs_ties": "5cb011ff8de1",
    "model_stock": "189720cc0110",
    "sce": "f2d20cdb9dbe",
    "nuslerp": "f8c5a2605378",
    "multislerp": "21f3149f45b3",
    "karcher": "308e0aff53eb",
    "nearswap": "2fe57dea448f",
    "arcee_fusion": "7d5bf81dde3b",
    "ram": "7f8ecc9fb208",
    "ramplus_tl": "7871f8fc6579",
    "tsv_merge": "a5a0fe7ba8a1",
    "iso_c": "810736aca180",
    "iso_cts": "79534bbebfcd",
    "pcb": "84dec3b91d98",
    "consensus_ta": "e08d493145ea",
    "consensus_ties": "dae7f91a67b3",
    "wudi": "c46afd0d28bc",
}


@pytest.mark.parametrize("name", METHODS)
def test_the_digest_of_every_method_is_pinned(name: str) -> None:
    # Another digest orphans every stored result of the method: only a change of its merges' bits may bring one.
    method = METHODS[name]
    experts = ["org/a", "org/b"][: expert_count(method, 2)]
    spec = MergeSpec.parse(base="org/base", experts=experts, merge_method=name, **needed_keys(method))
    assert DIGESTS.get(name) == spec.digest[:12]  # a new method enters these digits


def test_a_key_that_was_added_to_a_method_counts_in_the_digest_once_it_is_not_at_its_default() -> None:
    keys: dict[str, object] = {"base": "org/base", "experts": "org/a", "merge_method": "passthrough"}
    plain, told, scaled = (MergeSpec.parse(keys | more) for more in ({}, {"scale": 1}, {"scale": 2}))
    assert plain.digest == told.digest != scaled.digest
    assert plain.recipe_digest == told.recipe_digest != scaled.recipe_digest


def test_a_key_that_is_added_to_a_method_has_a_default() -> None:
    with pytest.raises(ValueError, match="needs a default"):
        Option("width", "rows of a stripe", added=True)
