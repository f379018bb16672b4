"""Methods of papers: held to their formulas, written in numpy, and to what these say of special experts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from della_bench.merge.kernels.dispatch import merge_tensor_fast
from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec
from della_bench.spec.methods import METHODS
from della_bench.spec.paper_methods import PAPER_METHODS
from tests.every_method import needed_keys

Doubles = NDArray[np.float64]

ON_MATRICES = ("tsv_merge", "iso_c", "iso_cts", "wudi")
SHAPES = [(12, 20), (20, 12), (16, 16)]


def merged(method: str, base: torch.Tensor, *experts: torch.Tensor, **keys: Any) -> torch.Tensor:
    names = [f"e{k}" for k in range(len(experts))]
    spec = MergeSpec.parse(base="b", experts=names, merge_method=method, **keys)
    return merge_tensor(spec, "w", base, experts)


def noise(*shape: int, seed: int, scale: float = 0.1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def family(shape: tuple[int, ...], count: int = 3) -> tuple[torch.Tensor, list[torch.Tensor]]:
    base = noise(*shape, seed=0)
    return base, [base + noise(*shape, seed=k + 1, scale=0.02) for k in range(count)]


def deltas_of(base: torch.Tensor, experts: list[torch.Tensor]) -> list[Doubles]:
    return [(expert - base).double().numpy() for expert in experts]


def close(found: torch.Tensor, base: torch.Tensor, delta: Doubles, within: float = 2e-6) -> None:
    np.testing.assert_allclose(found.double().numpy() - base.double().numpy(), delta, rtol=0, atol=within)


def orthogonal(matrix: Doubles) -> Doubles:
    """The polar factor by eigenvalues, X (X^T X)^(-1/2), of a matrix with at least as many rows as columns."""
    if matrix.shape[0] < matrix.shape[1]:
        return orthogonal(matrix.T).T
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    factor: Doubles = matrix @ (vectors / np.sqrt(values)) @ vectors.T
    return factor


def tsv(deltas: list[Doubles]) -> Doubles:
    kept = min(deltas[0].shape) // len(deltas)
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u = orthogonal(np.hstack([u[:, :kept] for u, _, _ in parts]))
    v = orthogonal(np.vstack([v[:kept] for _, _, v in parts]))
    found: Doubles = u @ np.diag(np.concatenate([s[:kept] for _, s, _ in parts])) @ v
    return found


def isotropic(deltas: list[Doubles], common: int) -> Doubles:
    """Iso-CTS with `common` directions of the sum; Iso-C where these are all."""
    total = np.sum(deltas, axis=0)
    own = (min(total.shape) - common) // len(deltas)
    u, s, v = np.linalg.svd(total, full_matrices=False)
    parts = [(u[:, :common], s[:common], v[:common])]
    for delta in deltas if own else []:
        left, size, right = np.linalg.svd(delta - u[:, :common] @ u[:, :common].T @ delta, full_matrices=False)
        parts.append((left[:, :own], size[:own], right[:own]))
    sizes = np.concatenate([s for _, s, _ in parts])
    return (
        orthogonal(np.hstack([u for u, _, _ in parts])) @ orthogonal(np.vstack([v for _, _, v in parts])) * sizes.mean()
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tsv_merge_is_the_papers_formula(shape):
    base, experts = family(shape)
    expected = tsv(deltas_of(base, experts))
    close(merged("tsv_merge", base, *experts), base, expected)
    close(merged("tsv_merge", base, *experts, **{"lambda": 0.4}), base, 0.4 * expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_iso_c_is_the_papers_formula(shape):
    base, experts = family(shape)
    expected = isotropic(deltas_of(base, experts), min(shape))
    close(merged("iso_c", base, *experts), base, expected)
    close(merged("iso_c", base, *experts, **{"lambda": 1.7}), base, 1.7 * expected)


@pytest.mark.parametrize(("fraction", "common"), [(0.5, 6), (0.8, 9), (0.3, 3), (0.0, 0), (1.0, 12)])
def test_iso_cts_is_the_papers_formula_with_directions_that_split_evenly(fraction, common):
    # Of 12 directions 0.8 are 9 (rounded down), and the other 3 are one an expert; 0.3 are 3, and the others 3 each.
    base, experts = family((12, 20))
    found = merged("iso_cts", base, *experts, common_space_fraction=fraction)
    close(found, base, isotropic(deltas_of(base, experts), common))


def test_iso_cts_gives_no_expert_more_directions_than_there_are():
    base, experts = family((3, 5), 2)  # 1.5 each, which rounds to 2
    close(merged("iso_cts", base, *experts, common_space_fraction=0), base, isotropic(deltas_of(base, experts), 1))


def test_iso_c_has_one_singular_value_and_the_singular_vectors_of_the_sum():
    base, experts = family((12, 20))
    delta = (merged("iso_c", base, *experts) - base).double().numpy()
    total = np.sum(deltas_of(base, experts), axis=0)
    mean = np.linalg.svd(total, compute_uv=False).mean()
    np.testing.assert_allclose(np.linalg.svd(delta, compute_uv=False), mean, rtol=1e-4)
    symmetric = delta @ total.T  # U S U^T
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-5)


def test_tsv_merge_of_one_expert_is_the_expert():
    base, (expert,) = family((12, 20), 1)
    torch.testing.assert_close(merged("tsv_merge", base, expert), expert, rtol=0, atol=1e-6)


def test_tsv_merge_and_wudi_of_experts_that_share_no_direction_are_their_sum():
    base = noise(8, 8, seed=0)
    first, second = torch.zeros(8, 8), torch.zeros(8, 8)
    first[:4, :4], second[4:, 4:] = noise(4, 4, seed=1), noise(4, 4, seed=2)
    for method in ("tsv_merge", "wudi"):
        found = merged(method, base, base + first, base + second)
        torch.testing.assert_close(found, base + first + second, rtol=0, atol=1e-6)


def test_tsv_merge_of_more_experts_than_directions_keeps_one_of_each():
    base, experts = family((3, 7), 5)
    found = merged("tsv_merge", base, *experts) - base
    assert found.isfinite().all()
    assert found.norm() > 0


@pytest.mark.parametrize("method", ON_MATRICES)
def test_a_weight_scales_an_experts_delta(method):
    base, experts = family((12, 20), 2)
    scaled = [base + 2 * (experts[0] - base), base - 0.5 * (experts[1] - base)]
    weighted = merged(method, base, *experts, weights="2+-0.5")
    torch.testing.assert_close(weighted, merged(method, base, *scaled), rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", ON_MATRICES)
@pytest.mark.parametrize("shape", [(7,), (), (9, 1), (6, 1, 4), (2, 3, 2, 2)], ids=str)
def test_a_tensor_that_is_no_matrix_gets_the_mean_of_the_deltas(method, shape):
    base, experts = family(shape)
    mean = np.mean([1.0, 2.0, 0.5] * np.stack(deltas_of(base, experts), axis=-1), axis=-1)
    close(merged(method, base, *experts, weights="1+2+0.5", **{"lambda": 0.7}), base, 0.7 * mean, 1e-7)


@pytest.mark.parametrize("method", ON_MATRICES)
def test_a_stack_of_matrices_is_merged_matrix_by_matrix(method):
    base, experts = family((4, 6, 10))
    found = merged(method, base, *experts)
    for k in range(4):
        alone = merged(method, base[k], *(expert[k] for expert in experts))
        torch.testing.assert_close(found[k], alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", [row.name for row in PAPER_METHODS])
def test_experts_that_are_the_base_leave_it_as_it_is(method):
    base = noise(6, 10, seed=0)
    torch.testing.assert_close(
        merged(method, base, base, base, **needed_keys(METHODS[method])), base, rtol=0, atol=1e-7
    )


def interference(m: Doubles, deltas: list[Doubles]) -> float:
    return float(sum(np.square((m - d) @ d.T).sum() / np.square(d).sum() for d in deltas))


def adam(deltas: list[Doubles], steps: int, rate: float) -> Doubles:
    """Adam (Kingma and Ba 2015, algorithm 1) on the interference, from the sum."""
    m = np.sum(deltas, axis=0)
    first, second = np.zeros_like(m), np.zeros_like(m)
    for step in range(1, steps + 1):
        gradient = sum(2 * (m - d) @ d.T @ d / np.square(d).sum() for d in deltas)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * np.square(gradient)
        m = m - rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return m


def test_wudi_takes_the_papers_steps():
    base, experts = family((12, 20))
    deltas = deltas_of(base, experts)
    close(merged("wudi", base, *experts), base, adam(deltas, 300, 1e-5))
    close(merged("wudi", base, *experts, iterations=40, learning_rate=1e-3), base, adam(deltas, 40, 1e-3), 1e-5)
    close(merged("wudi", base, *experts, iterations=0), base, np.sum(deltas, axis=0))


def test_wudi_comes_near_the_least_interference():
    base, experts = family((12, 20))
    deltas = deltas_of(base, experts)
    grams = [d.T @ d / np.square(d).sum() for d in deltas]
    best = sum(d @ g for d, g in zip(deltas, grams, strict=True)) @ np.linalg.pinv(sum(grams))
    found = (merged("wudi", base, *experts, iterations=3000, learning_rate=1e-4) - base).double().numpy()
    start = interference(np.sum(deltas, axis=0), deltas)
    assert interference(found, deltas) < interference(best, deltas) + 0.01 * (start - interference(best, deltas))


def test_wudi_works_where_a_caller_records_or_forbids_gradients():
    base, experts = family((6, 10), 2)
    plain = merged("wudi", base, *experts)
    with torch.inference_mode():
        inside = merged("wudi", base, *experts)
    assert torch.equal(plain, inside.clone())
    assert not plain.requires_grad


def softmax(values: Doubles) -> Doubles:
    powers = np.exp(values - values.max())
    shares: Doubles = powers / powers.sum()
    return shares


def unit(values: Doubles) -> Doubles:
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize(("density", "shape"), [("0.3", (9, 14)), ("1", (31,)), ("0.2+0.5+0.9", (2, 5, 6))])
def test_pcb_is_the_papers_formula(density, shape):
    base, experts = family(shape)
    flat = [delta.reshape(-1) for delta in deltas_of(base, experts)]
    shares = [float(part) for part in density.split("+")] * 3
    balances = []
    for own, share in zip(flat, shares, strict=False):
        within = softmax(3 * unit(own * own))
        between = np.sum([softmax(unit(own * other)) for other in flat], axis=0)
        balance = within * between
        cut = np.sort(balance)[::-1][max(1, int(share * balance.size + 1e-9)) - 1]
        balances.append(np.where(balance >= cut, balance, 0))
    lambdas = (1.0, 0.7, 1.3)
    total = np.sum(balances, axis=0)
    above = np.sum([b * w * d for b, w, d in zip(balances, lambdas, flat, strict=True)], axis=0)
    expected = np.divide(above, total, out=np.zeros_like(above), where=total > 0).reshape(shape)
    found = merged("pcb", base, *experts, density=density, weights="1+0.7+1.3", **{"lambda": 1.1})
    close(found, base, 1.1 * expected)


def test_pcb_of_one_expert_keeps_its_largest_magnitudes_as_they_are():
    base, (expert,) = family((9, 14), 1)
    found = merged("pcb", base, expert, density=0.25)
    delta = expert - base
    kept = delta.abs() >= delta.abs().reshape(-1).sort(descending=True).values[int(0.25 * 126) - 1]
    torch.testing.assert_close(found, torch.where(kept, expert, base), rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["pcb", "consensus_ties"])
def test_equal_deltas_are_kept_by_the_seed_and_not_by_their_place(method):
    base = torch.zeros(64, 32)
    expert = torch.full((64, 32), 0.5)
    keys = {"density": 0.25} | ({"agree": 1} if method == "consensus_ties" else {})
    kept = [merged(method, base, expert, expert, seed=seed, **keys) != 0 for seed in (1, 2)]
    assert not torch.equal(*kept)
    # Each half of the rows has its share: of 2048 draws, 4 standard deviations are 70.
    for mask in kept:
        assert abs(int(mask[:32].sum()) - int(mask[32:].sum())) < 150


def consensus(deltas: list[Doubles], total: Doubles, shares: list[float], agree: int) -> Doubles:
    votes = np.sum([np.abs(d) > share * np.abs(total - d) for d, share in zip(deltas, shares, strict=True)], axis=0)
    return np.where(votes >= agree, total, 0)


@pytest.mark.parametrize(("mask_lambda", "agree"), [("0.4", 2), ("0.2+0.6+1", 1), ("0.5", 3), ("0.4", 0)])
def test_consensus_ta_is_the_papers_formula(mask_lambda, agree):
    base, experts = family((9, 14))
    deltas = deltas_of(base, experts)
    shares = [float(part) for part in mask_lambda.split("+")]
    shares = shares * 3 if len(shares) == 1 else shares
    expected = 0.8 * consensus(deltas, np.sum(deltas, axis=0), shares, agree)
    found = merged("consensus_ta", base, *experts, mask_lambda=mask_lambda, agree=agree, **{"lambda": 0.8})
    close(found, base, expected, 1e-7)


def test_consensus_ties_is_the_papers_formula():
    base, experts = family((9, 14))
    deltas = deltas_of(base, experts)
    cuts = [np.sort(np.abs(d).reshape(-1))[::-1][int(0.5 * d.size) - 1] for d in deltas]
    trimmed = [np.where(np.abs(d) >= cut, d, 0) for d, cut in zip(deltas, cuts, strict=True)]
    sign = np.where(np.sum(trimmed, axis=0) < 0, -1, 1)
    total = np.sum([np.where(d * sign > 0, d, 0) for d in trimmed], axis=0)
    found = merged("consensus_ties", base, *experts, density=0.5, mask_lambda=0.4)
    close(found, base, consensus(deltas, total, [0.4] * 3, 2), 1e-7)


def test_consensus_of_equal_experts_is_task_arithmetic_and_of_apart_ones_the_base():
    base, (expert,) = family((9, 14), 1)
    assert torch.equal(merged("consensus_ta", base, expert, expert), merged("task_arithmetic", base, expert, expert))
    first, second = base.clone(), base.clone()
    first[:4] += 0.1
    second[4:] += 0.1
    assert torch.equal(merged("consensus_ta", base, first, second), base)
    alone = merged("consensus_ta", base, first, second, agree=1)
    torch.testing.assert_close(alone, base + 0.1, rtol=0, atol=1e-7)


@pytest.mark.parametrize("row", PAPER_METHODS, ids=lambda row: row.name)
def test_the_kernels_leave_it_to_the_reference_and_16_bit_goes_through(row):
    base, experts = family((12, 20), 2)
    tensors = [tensor.bfloat16() for tensor in (base, *experts)]
    keys = {"density": 0.5} if row.drops else {}
    spec = MergeSpec.parse(base="b", experts="e+f", merge_method=row.name, **keys)
    found = merge_tensor_fast(spec, "w", tensors[0], tensors[1:])
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, merge_tensor(spec, "w", tensors[0], tensors[1:]))
