"""Who stands where among candidates with several numbers, and what of a candidate's file is believed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from della_bench.results.bootstrap import bootstrap
from della_bench.search import selection
from della_bench.search.candidate import Candidate, read_candidate, write_candidate
from della_bench.search.objective import Goal
from della_bench.search.selection import standing
from della_bench.spec import MergeSpec

GOAL = Goal(({"zoo_math": 1.0}, {"zoo_code": 1.0}))


def candidates(folder, count, items=40):
    generator = np.random.default_rng(7)
    made = []
    for number in range(count):
        spec = MergeSpec.parse(f"base=zoo:base,experts=zoo:math,merge_method=task_arithmetic,lambda={1 + number / 100}")
        right = generator.random(2) * 0.6 + 0.2
        values = {
            name: list((generator.random(items) < share).astype(float))
            for name, share in zip(("zoo_math", "zoo_code"), right, strict=True)
        }
        made.append(
            Candidate(spec, folder / str(number), "proposed", number, state="complete", values={"search": values})
        )
    return made


def by_definition(made):
    """Hold each candidate against every other one."""
    shares = [np.array([np.mean(each.values["search"][name]) for name in ("zoo_math", "zoo_code")]) for each in made]
    front = [
        place
        for place, mine in enumerate(shares)
        if not any((other >= mine).all() and (other > mine).any() for other in shares)
    ]
    found = {}
    for place, mine in enumerate(shares):
        dominating = [other for other in front if (shares[other] >= mine).all() and other != place]
        surely = [
            each.p < 0.05 and each.mean > 0
            for other in dominating
            for each in next(
                iter(
                    bootstrap(
                        [
                            {
                                name: np.array(made[other].values["search"][name]) - made[place].values["search"][name]
                                for name in ("zoo_math", "zoo_code")
                            }
                        ],
                        [],
                    )
                )
            )[0].values()
        ]
        found[place] = "front" if place in front else "dominated" if any(surely) else "within the noise"
    return found


def test_a_candidate_stands_where_holding_it_against_every_other_puts_it(tmp_path):
    made = candidates(tmp_path, 24)
    stands = standing(GOAL, made)
    assert stands == by_definition(made)
    assert set(stands.values()) == {"front", "dominated", "within the noise"}


def test_two_candidates_are_compared_once_in_a_search_however_often_its_table_is_written(tmp_path, monkeypatch):
    asked = []
    compare = selection._significantly

    def noted(goal, better, worse):
        asked.append((better.number, worse.number))
        return compare(goal, better, worse)

    monkeypatch.setattr(selection, "_significantly", noted)
    made = candidates(tmp_path, 24)
    compared: selection.Compared = {}
    for ended in range(1, 25):
        grown = standing(GOAL, made[:ended], compared)
    assert len(asked) == len(set(asked)) == len(compared) > 0
    assert grown == standing(GOAL, made)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"base": "zoo:base", "experts": ["zoo:math"], "merge_method": "of_a_package_that_is_gone"}},
        {"spec": {"base": "zoo:base"}},
        {"spec": "x"},
        {"number": "x"},
        {"values": None},
        {"values": {"search": [1.0]}},
        {"items": {"search": None}},
        {"state": "done"},
        {"origin": "nowhere"},
        {"schema": 0},
        {"more": 1},
    ],
)
def test_a_file_that_is_no_candidate_of_this_release_is_none(tmp_path, changes):
    (made,) = candidates(tmp_path, 1)
    write_candidate(made)
    path = made.folder / "candidate.json"
    assert read_candidate(made.folder) == replace(made)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert read_candidate(made.folder) is None
