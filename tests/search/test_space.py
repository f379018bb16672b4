from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from della_bench.errors import SpecError
from della_bench.search.reading import read_space, space_mapping
from della_bench.search.space import Space
from della_bench.spec import MergeSpec
from della_bench.spec.own_keys import own_key_names
from della_bench.spec.thresholds import fits_density
from della_bench.spec.varying import anchors

TWO = "base=zoo:base,experts=zoo:math+zoo:code"
WIDE: dict[str, Any] = {
    "base": "zoo:base",
    "experts": ["zoo:chat", "zoo:math", "zoo:code"],
    "merge_method": {"choices": ["task_arithmetic", "ties", "dare_ties", "della", "della_layer_norm"]},
    "weights": {"low": 0.2, "high": 1.2},
    "density": {"low": 0.01, "high": 1.0, "shared": False},
    "epsilon": {"low": 0.0, "high": 0.45},
    "lambda": {"low": 0.4, "high": 1.6},
    "rescale": {"choices": ["inverse_keep", "l1", "none"]},
    "normalize": {"choices": [True, False]},
    "seed": {"low": 0, "high": 100, "int": True},
}


def of(text: str) -> Space:
    return read_space(space_mapping(text)[0], text=True)


def proposals(space: Space) -> st.SearchStrategy[dict[str, Any]]:
    def dimension(each: Any) -> st.SearchStrategy[Any]:
        if each.choices is not None:
            return st.sampled_from(list(each.choices))
        if each.grid is not None:
            return st.sampled_from(each.grid)
        return st.floats(each.low, each.high)

    def of_method(method: str) -> st.SearchStrategy[dict[str, Any]]:
        used = {each.name: dimension(each) for each in space.dimensions(method)}
        return st.fixed_dictionaries({"merge_method": st.just(method), **used})

    return st.sampled_from(space.methods).flatmap(of_method)


SPACES: dict[str, dict[str, Any]] = {
    "wide": WIDE,
    "least epsilon": {**WIDE, "epsilon": {"low": 0.1, "high": 0.4}, "density": {"low": 0.05, "high": 0.99}},
    "an epsilon each": {**WIDE, "epsilon": {"low": 0.0, "high": 0.4, "shared": False}},
    "steps": {**WIDE, "epsilon": {"low": 0.0, "high": 0.4, "step": 0.1}, "density": {"choices": [0.3, 0.9]}},
    "fixed epsilon": {**WIDE, "epsilon": 0.2},
}


@pytest.mark.parametrize("name", SPACES)
def test_every_proposal_is_a_valid_spec_with_an_epsilon_that_fits_its_density(name):
    space = read_space(SPACES[name])

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(proposals(space))
    def check(proposal: dict[str, Any]) -> None:
        spec = space.spec(proposal)  # raises where it is none
        assert not spec.unused
        if spec.method.magprune:
            for epsilon, density in zip(spec.epsilon, spec.density, strict=True):
                assert isinstance(epsilon, float)
                assert isinstance(density, float)
                assert fits_density(epsilon, density)

    check()


def test_a_key_that_the_method_does_not_use_is_not_proposed():
    space = read_space(WIDE)
    names = {method: [each.name for each in space.dimensions(method)] for method in space.methods}
    assert "epsilon" in names["della"]
    assert "epsilon" not in names["ties"]
    assert "density.math" in names["ties"]
    assert not [name for name in names["task_arithmetic"] if name.startswith(("density", "epsilon", "seed", "rescale"))]


def test_a_spec_of_the_space_gives_back_the_proposal_that_it_was_made_from():
    space = of(f"{TWO},merge_method=della|ties,density=0.2..1,epsilon=0.0..0.3,lambda=0.4..1.6,weights=0.2..1.2")
    numbers = {"density": 0.25, "epsilon": 0.28, "lambda": 0.9, "weights.math": 0.7, "weights.code": 1.0}
    spec = space.spec({"merge_method": "della", **numbers})
    assert spec.epsilon[0] == 0.2332  # 0.28 of 0.3, of what the density leaves room for: below 0.25
    found = space.proposal_of(spec)
    assert found is not None
    assert space.spec(found).digest == spec.digest
    assert space.proposal_of(MergeSpec.parse(f"{TWO},merge_method=dare_ties,density=0.5")) is None
    assert space.proposal_of(MergeSpec.parse(f"{TWO},density=0.1,epsilon=0")) is None  # outside the range


def test_a_string_and_a_file_say_the_same(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "base: zoo:base\nexperts: [zoo:math, zoo:code]\nmerge_method: {choices: [della, ties]}\n"
        "density: {low: 0.2, high: 0.8, step: 0.2}\nepsilon: 0.1\nlambda: {low: 0.01, high: 1, log: true}\n"
    )
    text = f"{TWO},merge_method=della|ties,density=0.2..0.8..0.2,epsilon=0.1,lambda=0.01..1..log"
    first, second = read_space(space_mapping(file)[0]), of(text)
    assert first.all_dimensions == second.all_dimensions
    assert [first.spec(first.middle(each)) for each in first.methods] == [
        second.spec(second.middle(each)) for each in second.methods
    ]


def test_other_names_of_a_key_are_searched_as_that_key():
    space = of(f"{TWO},method=della,drop_rate=0.1..0.7..0.1,window_size=0.0..0.4..0.1,lambda_factor=1.0")
    by_name = {each.name: each for each in space.all_dimensions}
    assert (by_name["density"].low, by_name["density"].high, by_name["density"].step) == (0.3, 0.9, 0.1)
    assert (by_name["epsilon"].low, by_name["epsilon"].high, by_name["epsilon"].step) == (0.0, 0.2, 0.05)


def test_per_layer_values_are_searched_anchor_by_anchor():
    space = of(f"{TWO},merge_method=task_arithmetic,lambda=self_attn:0.1..1~0.5/0.2..0.9")
    assert [each.name for each in space.all_dimensions] == ["lambda.self_attn.1", "lambda.rest"]
    spec = space.spec({"lambda.self_attn.1": 0.25, "lambda.rest": 0.5})
    assert str(spec).endswith("lambda=self_attn:0.25~0.5/0.5")


def test_a_genome_of_mergekit_evolve_is_a_space(tmp_path):
    file = tmp_path / "evolve.yaml"
    file.write_text(
        "genome:\n  models: [zoo:math, zoo:code]\n  base_model: zoo:base\n  merge_method: ties\n"
        "  layer_granularity: 2\n  smooth: true\ntasks:\n- name: zoo_math\n  weight: 1\n"
    )
    keys, _ = space_mapping(file)
    assert {each.key for each in read_space(keys).all_dimensions} == {"weights", "density"}
    assert keys["search"]["benchmarks"] == ["zoo_math"]


def test_an_expert_may_be_a_choice():
    space = read_space({**WIDE, "experts": ["zoo:chat", {"choices": ["zoo:math", "zoo:base"]}, "zoo:code"]})
    proposal = {**space.middle("ties"), "experts.2": "zoo:base"}
    assert [str(each) for each in space.spec(proposal).experts] == ["zoo:chat", "zoo:base", "zoo:code"]


def test_a_grid_holds_every_merge_once():
    space = of(f"{TWO},merge_method=della|task_arithmetic,density=0.1..0.3..0.1,epsilon=0.0..0.2..0.1,lambda=1..2..1")
    grid = space.grid
    assert grid is not None
    digests = [space.spec(point).digest for point in grid]
    # della: the epsilons that leave room are one for density 0.1, two for 0.2, three for 0.3; else lambdas alone
    assert len(digests) == len(set(digests)) == space.size == 2 * (1 + 2 + 3) + 2
    assert of(f"{TWO},merge_method=ties,density=0.1..0.3").grid is None


def test_a_range_of_whole_numbers_may_be_as_wide_as_a_seed_is():
    space = of(f"{TWO},merge_method=dare_ties,density=0.5,seed=0..4294967295..int")
    (seed,) = space.all_dimensions
    assert seed.points == space.size == 2**32
    assert seed.top == 2**32 - 1


@pytest.mark.parametrize("text", ["0.1..0.9..0.2", "0.1..0.8..0.2", "0.25..0.25..0.1", "0.1..0.9..0.07"])
def test_a_number_is_snapped_to_the_nearest_of_the_grid(text):
    (density,) = of(f"{TWO},merge_method=ties,density={text},lambda=1..2").all_dimensions[:1]
    grid = density.grid
    assert grid is not None
    assert density.points == len(grid)
    assert density.top == grid[-1]
    for number in [place / 64 for place in range(65)]:
        assert density.snapped(number) == min((abs(float(each) - number), float(each)) for each in grid)[1]


@pytest.mark.parametrize(
    "keys",
    [
        "density=0.3|0.2~0.8,epsilon=0.01..0.1",
        "density=0.05|0.2~0.8|0.9,epsilon=0.1",
        "density=0.3..0.9,epsilon=0.1|0.02~0.08|0.2",
        "density=0.3|self_attn:0.15/0.9,epsilon=0.05|0.02~0.08",
    ],
)
def test_choices_of_values_that_vary_over_layers_fit_one_another_too(keys):
    space = of(f"{TWO},merge_method=della,{keys}")
    for proposal in space.corners():
        spec = space.spec(proposal)  # else it says what does not fit
        assert space.spec(space.middle("della")).merge_method == spec.merge_method
    for point in space.grid or []:
        for density, epsilon in zip(space.spec(point).density, space.spec(point).epsilon, strict=True):
            assert all(fits_density(e, d) for d in anchors(density) for e in anchors(epsilon))


FAULTS = {
    f"{TWO},merge_method=ties,density=0.5": ["nothing to search: no key has a range"],
    f"{TWO},merge_method=ties,density=0.5..0.5": ["single point"],
    f"{TWO},merge_method=ties,density=0.9..0.2": ["density: upside down: low 0.9 is above high 0.2"],
    f"{TWO},merge_method=tis|ties,density=0.2..1.5,rescale=l1|l2": [
        "merge_method='tis': no such method; did you mean 'ties'?",
        "density=1.5: a density is in (0, 1]",
        "rescale='l2': not a choice",
    ],
    f"{TWO},merge_method=task_arithmetic,density=0.1..0.5,lambda=0..1": ["density: searched, but no method of the"],
    f"{TWO},merge_method=ties,density=0.1..0.5,drop_rate=0.2": ["drop_rate: another name of density"],
    f"{TWO},merge_method=ties,drop_rate=0.01..0.5..log": ["drop_rate: log: its orders of magnitude are not those of d"],
    f"{TWO},merge_method=della,lambda=0.1..1": ["density: missing", "epsilon: missing"],
    f"{TWO},merge_method=ties,densty=0.1..0.5": ["densty: unknown key; did you mean 'density'?"],
    "base=zoo:base|zoo:math,experts=zoo:math,merge_method=ties,density=0.1..0.5": ["base: cannot be searched"],
    f"{TWO},merge_method=della,density=0.2..0.3,epsilon=0.4..0.45": ["too wide for a density"],
    f"{TWO},merge_method=ties,density=0.2..0.9,t=0..1,gamma=0.1..0.2": [
        "t: searched, but no method of the space uses it (ties)",
        "gamma: searched, but no method of the space uses it (ties)",
    ],
    f"{TWO},merge_method=tis,t=0..1,density=1.5": ["merge_method='tis': no such method"],
    f"{TWO},merge_method=1..2,density=0.2..0.9": ["merge_method: has no range of numbers"],
    "base=zoo:base,experts=1..2,merge_method=ties,density=0.2..0.9": ["experts: has no range of numbers"],
    f"{TWO},merge_method=ties,density=0.2..0.9..1e-12": ["density: step 1e-12: makes 700,000,000,001 points"],
    f"{TWO},merge_method=ties,density=0.2...0.9,lambda=nan..1": [
        "density: '0.2...0.9': no range; write 0.2..0.9",
        "lambda: 'nan..1': no range",
    ],
    "merge_method=ties,density=1.5,rescale=l2,weights=a,lambda=2..1": [
        "base: missing",
        "experts: missing",
        "density='1.5': a density is in (0, 1]",
        "rescale='l2': not a choice",
        "weights='a': not a number",
        "lambda: upside down",
    ],
    "": ["base: missing", "experts: missing", "nothing to search"],
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_wrong_with_a_space_is_told_all_at_once(text):
    with pytest.raises(SpecError) as raised:
        of(text)
    assert [fault for fault in FAULTS[text] if fault not in str(raised.value)] == []


def test_the_keys_of_methods_are_listed_in_one_order_in_every_process():
    with pytest.raises(SpecError, match="qqqq: unknown key; one of: ") as raised:
        of(f"{TWO},merge_method=ties,density=0.2..0.9,qqqq=1")
    listed = raised.value.faults[0].partition("one of: ")[2].split(", ")
    own = [name for name in listed if name in own_key_names()]
    assert len(own) > 5
    assert own == sorted(own)


def test_what_is_nothing_is_missing_and_experts_that_cannot_be_read_are_not():
    with pytest.raises(SpecError) as raised:
        read_space({**WIDE, "base": None, "experts": {"low": 1, "high": 2}})
    assert [fault.partition(";")[0] for fault in raised.value.faults] == [
        "experts: has no range of numbers",
        "base: missing",
    ]


def test_a_range_that_cannot_be_read_is_not_said_to_be_missing():
    with pytest.raises(SpecError) as raised:
        of(f"{TWO},merge_method=ties,density=0.9..0.2")
    assert raised.value.faults == ["density: upside down: low 0.9 is above high 0.2"]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"low": 0.1}, "without 'high'"),
        ({"low": 0.1, "high": 0.5, "stp": 0.1}, "did you mean 'step'?"),
        ({"low": 0.1, "high": 0.5, "step": 0}, "must be above 0"),
        ({"low": 0, "high": 0.5, "log": True}, "needs a low above 0"),
        ({"choices": []}, "at least one entry"),
        ({"choices": [0.5, 0.5]}, "stands there twice"),
        ({"low": "a", "high": 0.5}, "not a number"),
        ({"low": 0.1, "high": 0.5, "shared": "perhaps"}, "shared 'perhaps': true or false"),
    ],
)
def test_what_is_wrong_with_a_range_is_told(value, told):
    with pytest.raises(SpecError, match="density") as raised:
        read_space({**WIDE, "density": value})
    assert told in str(raised.value)
