from __future__ import annotations

import json

import numpy as np
import pytest

from della_bench.merge import bits
from della_bench.merge.tensor import merge_tensor
from della_bench.spec.methods import ALGORITHM_VERSION
from tests.merge.compare import tensor_of
from tests.merge.golden import CASES, DTYPES, FILE, NAME, SHAPES, compute, hexadecimal, source, text

TEXT = FILE.read_text(encoding="utf-8")
GOLDEN = json.loads(TEXT)
VECTORS = {(row["case"], row["dtype"], tuple(row["shape"])): row["bits"] for row in GOLDEN["vectors"]}


def test_the_file_is_the_oracles():
    assert text(compute()) == TEXT


def test_the_bits_are_those_of_version_2():
    assert ALGORITHM_VERSION == 2, "the bits of a merge changed: write golden.json anew and name the version here"


def test_key_and_words_are_the_golden_ones():
    low, high = (int(word, 16) for word in GOLDEN["key"])
    key = bits.tensor_key(42, 1, NAME)
    assert key == low | high << 32
    assert bits.words(key, 10).tolist() == [int(word, 16) for word in GOLDEN["words"].split()]


@pytest.mark.parametrize("label", CASES)
def test_torch_gives_the_golden_bits(label):
    case = CASES[label]
    for dtype in DTYPES:
        for shape in SHAPES:
            base, *experts = [tensor_of(source(k, shape, dtype, label), dtype) for k in range(len(case.weights) + 1)]
            merged = merge_tensor(case.spec, NAME, base, experts)
            assert hexadecimal(merged.float().numpy(), dtype) == VECTORS[label, dtype, shape]


def test_every_vector_is_held_to():
    assert set(VECTORS) == {(label, dtype, shape) for label in CASES for dtype in DTYPES for shape in SHAPES}


def test_methods_differ_in_their_golden_bits():
    found: dict[str, list[str]] = {}
    for label in CASES:
        together = " ".join(VECTORS[label, dtype, shape] for dtype in DTYPES for shape in SHAPES)
        found.setdefault(together, []).append(label)
    assert [labels for labels in found.values() if len(labels) > 1] == []


def test_inputs_hold_ties_and_negative_zeros():
    base, expert = source(0, (5, 12), "float32"), source(1, (5, 12), "float32")
    assert np.signbit(base[base == 0]).any()
    deltas = (expert - base).reshape(-1)
    assert 0 < int((deltas == 0).sum()) < 30
    signs = [np.sign(source(k, (5, 12), "float32") - base).reshape(-1) for k in (1, 2, 3)]
    assert len({tuple(column) for column in zip(*signs, strict=True)}) > 8
