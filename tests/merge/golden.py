"""Golden vectors: small merges whose inputs are a formula and whose outputs are committed as bits.

`golden.json` is the oracle's; any implementation of a merge can be held to it. `python -m tests.merge.golden` writes it
anew, which is right for new cases; a changed line needs a raised ALGORITHM_VERSION.

Inputs: value i of source k (0 the base, then the experts) is c / 1024 with c in [-512, 512) taken from
(i + 1) * 2654435761 + k * 2246822519 modulo 2^32, its bits 12 to 21; an expert adds 1/16 of that to the base, and every
fifth one is the base's own, every seventh of the base is -0. In cases whose label ends in "equals", all of c / 1024 is
rounded down to eighths, and an expert adds the whole of it: few magnitudes, many times each. All is then rounded to the
dtype.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.merge.compare import Case
from tests.merge.oracle import DELTA_RULES, RULES, Floats, key_of, merge, rounded, words_of

FILE = Path(__file__).with_name("golden.json")
DTYPES = ("bfloat16", "float32")
SHAPES = ((5, 12), (7,), (2, 3, 2))
NAME = "model.layers.0.mlp.up_proj.weight"

_NUMBERS: dict[str, Any] = {
    "weights": (1.0, 0.7, 1.3),
    "densities": (0.6, 0.4, 0.5),
    "epsilon": 0.14,
    "lambda_": 1.1,
    "name": NAME,
}
CASES = {
    **{name: Case(name, **_NUMBERS) for name in (*DELTA_RULES, "linear")},
    "slerp": Case("slerp", weights=(0.3,), name=NAME),
    "passthrough": Case("passthrough", weights=(1.0,), name=NAME),
    "della l1": Case("della", **_NUMBERS, rescale="l1"),
    "della count": Case("della", **_NUMBERS, elect="count"),
    "ties inverse_keep": Case("ties", **_NUMBERS, rescale="inverse_keep"),
    "ties sum": Case("ties", **_NUMBERS, normalize=False),
    "linear sum": Case("linear", **_NUMBERS, normalize=False),
    "dare_linear seed": Case("dare_linear", **_NUMBERS, seed=2**64 - 1),
    "ties equals": Case("ties", **_NUMBERS),
    "ties seed equals": Case("ties", **_NUMBERS, seed=7),
    "ties_row equals": Case("ties_row", **_NUMBERS),
    "della equals": Case("della", **_NUMBERS),
}
assert {case.method for case in CASES.values()} == set(RULES)


def source(k: int, shape: tuple[int, ...], dtype: str, label: str = "") -> Floats:
    """The base (k = 0) or an expert of the case with this label, by the formula."""
    is_coarse = label.endswith("equals")

    def raw(k: int, i: int) -> float:
        c = ((i + 1) * 2654435761 + k * 2246822519) % 2**32 >> 12 & 1023
        return (c // 128 - 4) / 8 if is_coarse else (c - 512) / 1024

    def value(i: int) -> float:
        base = -0.0 if i % 7 == 0 else raw(0, i)
        return base if k == 0 or i % 5 == k else base + raw(k, i) / (1 if is_coarse else 16)

    flat = np.array([value(i) for i in range(math.prod(shape))], dtype=np.float32)
    return rounded(flat, dtype).reshape(shape)


def hexadecimal(values: Floats, dtype: str) -> str:
    """The bits of the values, 4 or 8 digits each."""
    digits = 8 if dtype == "float32" else 4
    return " ".join(f"{bits:08x}"[:digits] for bits in values.reshape(-1).view(np.uint32).tolist())


def compute() -> dict[str, Any]:
    """All golden vectors, by the oracle alone."""
    vectors = []
    for label, case in CASES.items():
        for dtype in DTYPES:
            for shape in SHAPES:
                base, *experts = [source(k, shape, dtype, label) for k in range(len(case.weights) + 1)]
                merged = merge(case.rule, case.numbers, base, dtype, experts, NAME)
                vectors.append(
                    {"case": label, "dtype": dtype, "shape": list(shape), "bits": hexadecimal(merged, dtype)}
                )
    words = [f"{word:08x}" for word in words_of(42, 1, NAME, 10).tolist()]
    return {
        "about": "written by tests/merge/golden.py, where the inputs' formula and the cases stand",
        "key": [f"{word:08x}" for word in key_of(42, 1, NAME)],
        "words": " ".join(words),
        "inputs": {dtype: [hexadecimal(source(k, (7,), dtype), dtype) for k in range(4)] for dtype in DTYPES},
        "cases": {label: asdict(case) for label, case in CASES.items()},
        "vectors": vectors,
    }


def text(golden: dict[str, Any]) -> str:
    """JSON with one case and one vector a line."""
    lines = []
    for name, value in golden.items():
        if name == "cases":
            rows = ",\n".join(f"  {json.dumps(label)}: {json.dumps(case)}" for label, case in value.items())
            lines.append(f"{json.dumps(name)}: {{\n{rows}\n}}")
        elif name == "vectors":
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
            lines.append(f"{json.dumps(name)}: [\n{rows}\n]")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text(compute()), encoding="utf-8")
