"""Holding the torch reference to the oracle: one case, computed twice, compared to the bit."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from della_bench.merge.tensor import merge_tensor
from della_bench.spec import MergeSpec
from tests.merge.oracle import RULES, Floats, Numbers, Rule, merge, rounded

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    """A method with its numbers; None stands for the method's own choice."""

    method: str
    weights: Sequence[float] = (1.0, 1.0)
    densities: Sequence[float] = (0.5,)
    epsilon: float = 0.2
    lambda_: float = 1.0
    seed: int = 42
    rescale: str | None = None
    elect: str | None = None
    normalize: bool | None = None
    dtype: str | None = None
    name: str = field(default="model.layers.0.mlp.up_proj.weight")

    @property
    def rule(self) -> Rule:
        """The method's rule with the case's choices; a method without a drop has no rescale, whole ones no election."""
        rule = RULES[self.method]
        if rule.whole is None:
            rule = replace(rule, elect=self.elect or rule.elect)
        if rule.drop != "none":
            rule = replace(rule, rescale=self.rescale or rule.rescale)
        return rule if self.normalize is None else replace(rule, normalize=self.normalize)

    @property
    def numbers(self) -> Numbers:
        count = len(self.weights)
        densities = tuple(self.densities) * count if len(self.densities) == 1 else self.densities
        return Numbers(self.weights, densities, self.epsilon, self.lambda_, self.seed)

    @property
    def spec(self) -> MergeSpec:
        """The same case as a user would write it, without the keys that the method does not take."""
        rule = self.rule
        keys: dict[str, Any] = {
            "base": "base",
            "experts": [f"expert{k}" for k in range(len(self.weights))],
            "merge_method": self.method,
            "dtype": self.dtype,
        }
        if rule.whole != "passthrough":
            keys["weights"] = list(self.weights)
        if rule.drop != "none":
            keys |= {"density": list(self.densities), "rescale": rule.rescale, "seed": self.seed}
        if rule.drop.startswith("magprune"):
            keys["epsilon"] = self.epsilon
        if rule.whole is None:
            keys["elect"] = rule.elect
            if rule.scaling == "lambda":
                keys["lambda"] = self.lambda_
        if rule.whole in (None, "linear"):
            keys["normalize"] = rule.normalize
        return MergeSpec.parse(**keys)


def tensor_of(values: Floats, dtype: str) -> torch.Tensor:
    """Values that lie on a dtype's grid, as a tensor of it."""
    made = torch.from_numpy(np.array(values)).to(DTYPES[dtype])
    assert np.array_equal(made.float().numpy(), values), "not on the grid"
    return made


def assert_same(found: torch.Tensor, expected: Floats, dtype: str) -> None:
    """Same dtype, shape and bits; a NaN equals any NaN, and a negative zero no positive one."""
    assert found.dtype == DTYPES[dtype]
    values = found.float().numpy()
    assert values.shape == expected.shape
    same = (values.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(values) & np.isnan(expected))
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(
            f"{(~same).sum()} of {same.size} differ, first at {at}: {values[at]!r}, not {expected[at]!r}"
        )


def check(case: Case, base: Floats, experts: Sequence[Floats], dtype: str, expert_dtype: str | None = None) -> Floats:
    """Merge by torch and by the oracle; the two must be equal. Returns what both computed."""
    own = expert_dtype or dtype
    base, experts = rounded(base, dtype), [rounded(expert, own) for expert in experts]
    out = DTYPES[case.dtype] if case.dtype else None
    found = merge_tensor(case.spec, case.name, tensor_of(base, dtype), [tensor_of(e, own) for e in experts], out)
    expected = merge(case.rule, case.numbers, base, dtype, experts, case.name, case.dtype)
    assert_same(found, expected, case.dtype or dtype)
    return expected
