"""Methods with functions of their own: what these get and may return, and what the kernels leave to the reference."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent
from typing import Any

import pytest
import torch

from della_bench.checkpoint.tensor import HostTensor
from della_bench.errors import MergeError, SpecError
from della_bench.merge import bits
from della_bench.merge.kernels import cpu
from della_bench.merge.kernels.dispatch import merge_tensor_fast
from della_bench.merge.stream import Merge
from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec, Method, Option, registry
from della_bench.spec import method as contract
from della_bench.spec.methods import METHODS
from tests.merge.compare import Case

BASE = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
EXPERTS = [BASE + 0.1 * torch.randn(6, 10, generator=torch.Generator().manual_seed(k)).bfloat16() for k in (1, 2)]


@pytest.fixture
def spec_of(monkeypatch):
    """Return a function that registers a method and parses a spec of it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    def spec_of(method: Method, **keys) -> MergeSpec:
        registry.register(method, "a-test")
        return MergeSpec.parse({"base": "b", "experts": "e+f", "merge_method": method.name, **keys})

    return spec_of


def own(**parts):
    return Method("own", "a test's method", "here", version="1", **parts)


def example(text):
    """Return what the example in a docstring defines as METHOD."""
    code = text[text.index("    # stripes.py") : text.index("From then on")]
    names: dict[str, Method] = {}
    exec(dedent(code), names)
    return names["METHOD"]


def test_the_contracts_example_keeps_stripes_of_rows(spec_of):
    spec = spec_of(example(contract.__doc__), density=0.5, width=2)
    base, expert = torch.zeros(8, 3), torch.arange(1.0, 25.0).reshape(8, 3)
    merged = merge_tensor_fast(spec, "w", base, [expert, 10 * expert])
    kept = torch.tensor([False, False, True, True] * 2)
    assert torch.equal(merged, torch.where(kept[:, None], 11 * expert, 0.0))
    assert merge_tensor_fast(spec, "w", base[0], [expert[0], expert[0]]).tolist() == [0.0] * 3  # a vector is one row


def test_a_functions_own_keys_come_by_their_names_one_an_expert_for_a_drop(spec_of):
    calls = []

    def drop(delta, density, epsilon, words, *, share, deep):
        calls.append((share, deep))
        return delta * share

    options = (Option("share", "a test's", each=True), Option("deep", "a test's", bool, default=False))
    spec = spec_of(own(drop=drop, options=options), density=0.5, share="0.25+0.75")
    merge_tensor_fast(spec, "w", BASE, EXPERTS)
    assert calls == [(0.25, False), (0.75, False)]

    def merge(base, experts, numbers, *, share, deep):
        calls.append((share, deep))
        return base + share[1]

    registry._registered.pop("own")
    spec = spec_of(own(merge=merge, options=options), share=0.5, deep="true")
    assert torch.equal(merge_tensor_fast(spec, "w", BASE.float(), EXPERTS), BASE.float() + 0.5)
    assert calls[2:] == [((0.5, 0.5), True)]


@pytest.mark.parametrize("rescale", ["none", "l1", "inverse_keep"])
def test_a_drop_that_takes_rescale_leaves_the_scaling_to_it(spec_of, rescale):
    def drop(delta, density, epsilon, words):
        return torch.where(torch.arange(delta.numel()).reshape(delta.shape) % 2 == 0, delta, 0.0)

    spec = spec_of(own(drop=drop, takes=("rescale",)), density=0.5, rescale=rescale)
    base, expert = torch.zeros(8), torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0, 4.0, 3.0, 8.0])
    factor = {"none": 1.0, "l1": 3.0, "inverse_keep": 2.0}[rescale]  # 24 in all, 8 of them kept
    expected = torch.tensor([1.0, 0.0, 3.0, 0.0, 1.0, 0.0, 3.0, 0.0]) * factor
    assert torch.equal(merge_tensor_fast(spec, "w", base, [expert, base]), expected)


def test_a_drop_that_is_named_is_imported_when_it_is_used(spec_of):
    spec = spec_of(own(drop="no_such_module:drop"), density=0.5)
    with pytest.raises(MergeError, match=r"own: package a-test names no_such_module:drop .* ModuleNotFoundError"):
        merge_tensor_fast(spec, "w", BASE, EXPERTS)


@pytest.mark.parametrize("part", ["drop", "merge"])
def test_a_function_that_does_not_load_is_told_before_any_source_is_opened(spec_of, part):
    spec = spec_of(own(**{part: "no_such_module:function"}), **({"density": 0.5} if part == "drop" else {}))
    with pytest.raises(MergeError, match="package a-test names no_such_module:function") as caught:
        Merge(spec)  # of folders that are not there
    assert caught.value.exit_code == 2


def test_a_drop_function_gets_float32_deltas_the_numbers_and_the_pinned_random_words(spec_of):
    calls = []

    def drop(delta, density, epsilon, words):
        calls.append((delta, density, epsilon, words))
        return torch.where(words < density * 2**32, delta / density, 0.0)

    spec = spec_of(own(drop=drop, takes=("seed",), elect="sum", normalize=True), density="0.5+0.7", seed=7)
    found = merge_tensor_fast(spec, "w", BASE, EXPERTS)
    for k, (delta, density, epsilon, words) in enumerate(calls):
        assert torch.equal(delta, EXPERTS[k].float() - BASE.float())
        assert (density, epsilon) == ((0.5, 0.7)[k], None)
        assert torch.equal(words.reshape(-1), bits.words(bits.tensor_key(7, k, "w"), 60))
    assert len(calls) == 2
    like = MergeSpec.parse(base="b", experts="e+f", merge_method="dare_della", density="0.5+0.7", seed=7)
    assert torch.allclose(found.float(), merge_tensor(like, "w", BASE, EXPERTS).float(), atol=1e-2)


def test_an_expert_of_density_1_is_not_dropped_from(spec_of):
    def drop(delta, density, epsilon, words):
        assert (density, words) == (0.5, None)
        return delta * 0

    spec = spec_of(own(drop=drop), density="0.5+1")
    assert torch.equal(
        merge_tensor_fast(spec, "w", BASE, EXPERTS), (BASE.float() + (EXPERTS[1].float() - BASE.float())).bfloat16()
    )


def test_a_merge_function_gets_what_it_takes_and_neutral_values_for_the_rest(spec_of):
    def merge(base, experts, numbers):
        assert base.dtype == experts[0].dtype == torch.float32
        assert (numbers.tensor, numbers.weights, numbers.lambda_) == ("w", (0.25, 2.0), 3.0)
        assert (numbers.density, numbers.epsilon, numbers.normalize) == ((), (), False)
        assert numbers.words(1).shape == base.shape
        return base + numbers.lambda_ * (experts[0] * numbers.weights[0] + experts[1] * numbers.weights[1])

    spec = spec_of(own(merge=merge, takes=("weights", "lambda")), weights="0.25+2", **{"lambda": 3, "density": 0.5})
    assert spec.unused == ("density",)
    expected = BASE.float() + 3 * (EXPERTS[0].float() * 0.25 + EXPERTS[1].float() * 2)
    assert torch.equal(merge_tensor_fast(spec, "w", BASE, EXPERTS), expected.bfloat16())


def test_a_function_that_returns_a_source_gives_the_stored_bits():
    wide = torch.tensor([1 + 2.0**-40], dtype=torch.float64)
    case = Case("passthrough", weights=(1.0,))
    assert torch.equal(merge_tensor(case.spec, "w", wide * 0, [wide]), wide)


def test_a_method_that_needs_no_base_gets_none(spec_of):
    def merge(base, experts, numbers):
        assert base is None
        return experts[1]

    assert torch.equal(merge_tensor_fast(spec_of(own(merge=merge, uses_base=False)), "w", BASE, EXPERTS), EXPERTS[1])


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (None, "NoneType"),
        (torch.zeros(3), "float32 (3,)"),
        (torch.zeros(6, 10).double(), "float64 (6, 10)"),
    ],
)
@pytest.mark.parametrize("kind", ["drop", "merge"])
def test_what_a_function_may_not_return_is_an_error_that_names_it(spec_of, result, told, kind):
    spec = spec_of(own(**{kind: lambda *_: result}), **({"density": 0.5} if kind == "drop" else {}))
    with pytest.raises(MergeError, match=r"own.*a-test.*tensor w") as caught:
        merge_tensor_fast(spec, "w", BASE, EXPERTS)
    assert told in str(caught.value)


def test_a_named_function_that_does_not_load_is_an_error_that_names_the_package(spec_of):
    spec = spec_of(own(merge="no_such_module:merge"))
    with pytest.raises(MergeError, match=r"own: package a-test names no_such_module:merge .* ModuleNotFoundError"):
        merge_tensor_fast(spec, "w", BASE, EXPERTS)


def test_counts_of_experts_and_bounds_of_weights_are_checked(spec_of):
    method = own(merge=lambda base, experts, numbers: base, takes=("weights",), experts=2, weights_within=(-1, 1))
    assert spec_of(method, weights=-1).weights == (-1.0, -1.0)
    with pytest.raises(SpecError) as caught:
        MergeSpec.parse({"base": "b", "experts": "e", "merge_method": "own", "weights": 1.5})
    told = ["experts: own takes exactly 2, got 1", "weights=1.5: a weight of own is in [-1, 1]"]
    assert caught.value.faults == told


ROW = Case("dare_ties", weights=(1.0, 0.5))


def with_unknown(column, monkeypatch):
    """Return a spec with a choice that no kernel knows, as if the table and the reference had got one more."""
    if column in ("drop", "scaling"):
        row = replace(registry.find_method("dare_ties"))
        object.__setattr__(row, column, "invented")
        monkeypatch.setitem(registry._registered, "dare_ties", row)
    spec = ROW.spec
    if column in ("elect", "rescale"):
        object.__setattr__(spec, column, "invented")
    return spec


@pytest.mark.parametrize("column", ["drop", "elect", "scaling", "rescale"])
def test_a_choice_that_the_kernels_do_not_know_goes_to_the_reference(monkeypatch, column):
    tensors = [HostTensor.of(tensor) for tensor in (BASE, *EXPERTS)]
    assert cpu.supports(ROW.spec.at(""), tensors, "BF16")
    spec = with_unknown(column, monkeypatch)
    assert not cpu.supports(spec.at(""), tensors, "BF16")
    monkeypatch.setattr("della_bench.merge.tensor.merge_tensor", lambda *_: EXPERTS[0])
    assert torch.equal(merge_tensor_fast(spec, "w", BASE, EXPERTS), EXPERTS[0])


PINNED = [name for name, row in METHODS.items() if row.pinned]
# What a method needs beside two experts, or in their place.
NEEDS: tuple[dict[str, Any], ...] = (
    {},
    {"density": 0.5},
    {"density": 0.5, "epsilon": 0.1},
    {"experts": "e", "weights": 0.3},
    {"experts": "e", "t": 0.3},
)


@pytest.mark.parametrize("method", PINNED)
def test_the_number_of_threads_matters_to_no_pinned_method(method):
    generator = torch.Generator().manual_seed(0)
    base, *noise = (torch.randn(200, 400, generator=generator) for _ in range(3))  # enough for torch to split the work
    spec = next(
        filter(None, (parsed({"base": "b", "experts": "e+f", "merge_method": method, **more}) for more in NEEDS))
    )
    experts = [base + 0.1 * change for change in noise][: len(spec.experts)]
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(merge_tensor(spec.at("w"), "w", base, experts))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def parsed(keys):
    try:
        return MergeSpec.parse(keys)
    except SpecError:
        return None
