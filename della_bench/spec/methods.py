"""The table of built-in merge methods; `method.py` says what a method is, `registry.py` finds those of other packages.

Here stand the methods of the DELLA authors' code. `mergekit_methods.py` and `paper_methods.py` hold those that mergekit and
later papers add.

Columns: how deltas are dropped, how signs are elected, whether the sum is divided by the weights that agree, what
scales the merged delta, and how kept values are rescaled. The last three rows work on whole weights instead of deltas.

Two families behave differently here than in the DELLA authors' published code, where a defect hides behind the name:
there the `*_ada_*` rows never receive their option and equal the row without it, and `della_noelect` still elects.
Here both do what their names say.
"""

from __future__ import annotations

from della_bench.spec.mergekit_methods import MERGEKIT_METHODS
from della_bench.spec.method import Method
from della_bench.spec.option import Option
from della_bench.spec.paper_methods import PAPER_METHODS

__all__ = ["ALGORITHM_VERSION", "AUTHORS_METHODS", "METHODS"]

# Deep et al. 2024, Yu et al. 2023, Yadav et al. 2023, Ilharco et al. 2022, Wortsman et al. 2022, Shoemake 1985.
DELLA = "DELLA, arXiv:2406.11617"
DELLA_CODE = "the DELLA authors' code"
DARE = "DARE, arXiv:2311.03099"
TIES = "TIES, arXiv:2306.01708"
TASK_ARITHMETIC = "task vectors, arXiv:2212.04089"
SOUPS = "model soups, arXiv:2203.05482"
SLERP = "doi:10.1145/325334.325242"

# Also what gives a frankenmerge its `scale`.
SCALE = Option("scale", "factor of a tensor", default=1.0, each=True, added=True)

# One row a line, so that methods can be compared column by column.
# fmt: off
# ruff: noqa: E501
AUTHORS_METHODS = (
    # Sums and means of deltas, without dropping.
    Method("task_arithmetic", "base + lambda * weighted sum of the deltas", TASK_ARITHMETIC),
    Method("nodrop_noelect", "weighted mean of the deltas", DELLA, normalize=True),
    Method("nodrop_ada_layer", "elected mean, scaled per tensor", DELLA_CODE, "none", "sum", True, "ada_layer"),
    Method("nodrop_ada_row", "elected mean, scaled per row", DELLA_CODE, "none", "sum", True, "ada_row"),
    Method("nodrop_ada_row_inv", "elected mean, inverse scale per row", DELLA_CODE, "none", "sum", True, "ada_row_inv"),
    # DARE: drop at random, rescale by 1 / density.
    Method("dare_linear", "random drop, sum", DARE, "random", rescale="inverse_keep"),
    Method("dare_ties", "random drop, elected sum", DARE, "random", "sum", rescale="inverse_keep"),
    Method("dare_della", "random drop, elected mean (the paper's DARE)", DELLA, "random", "sum", True, "lambda", "inverse_keep"),
    Method("dare_noelect", "random drop, mean of all", DELLA, "random", "none", True, "lambda", "inverse_keep"),
    Method("dare_della_ada_layer", "dare_della, scaled per tensor", DELLA_CODE, "random", "sum", True, "ada_layer", "inverse_keep"),
    Method("dare_della_ada_row", "dare_della, scaled per row", DELLA_CODE, "random", "sum", True, "ada_row", "inverse_keep"),
    Method("dare_della_ada_row_inv", "dare_della, inverse scale per row", DELLA_CODE, "random", "sum", True, "ada_row_inv", "inverse_keep"),
    # TIES: keep the largest magnitudes.
    Method("ties", "largest magnitudes of a tensor, elected mean", TIES, "magnitude", "sum", True),
    Method("ties_row", "largest magnitudes of each row, elected mean", DELLA_CODE, "magnitude_row", "sum", True),
    Method("ties_noelect", "largest magnitudes, mean of all", DELLA, "magnitude", "none", True),
    Method("ties_ada_layer", "ties, scaled per tensor", DELLA_CODE, "magnitude", "sum", True, "ada_layer"),
    Method("ties_ada_row", "ties, scaled per row", DELLA_CODE, "magnitude", "sum", True, "ada_row"),
    Method("ties_ada_row_inv", "ties, inverse scale per row", DELLA_CODE, "magnitude", "sum", True, "ada_row_inv"),
    # DELLA: the keep probability rises with the magnitude's rank.
    Method("della", "drop by rank in the row, elected mean", DELLA, "magprune", "sum", True, "lambda", "inverse_keep"),
    Method("della_norank", "drop by normalised magnitude in the row", DELLA_CODE, "magprune_norank", "sum", True, "lambda", "inverse_keep"),
    Method("della_layer_norm", "drop by rank in the whole tensor", DELLA_CODE, "magprune_layer", "sum", True, "lambda", "inverse_keep"),
    Method("della_noelect", "della, mean of all", DELLA, "magprune", "none", True, "lambda", "inverse_keep"),
    Method("della_ada_layer", "della, scaled per tensor", DELLA_CODE, "magprune", "sum", True, "ada_layer", "inverse_keep"),
    Method("della_ada_row", "della, scaled per row", DELLA_CODE, "magprune", "sum", True, "ada_row", "inverse_keep"),
    Method("della_ada_row_inv", "della, inverse scale per row", DELLA_CODE, "magprune", "sum", True, "ada_row_inv", "inverse_keep"),
    # Whole weights, each by a function. It is named and not imported here: to read a spec takes no torch.
    Method("linear", "weighted mean of the experts' weights", SOUPS, normalize=True, scaling="none", merge="della_bench.merge.whole:linear", takes=("weights", "normalize"), uses_base=False),
    Method("slerp", "spherical interpolation from the base to one expert, t its weight", SLERP, scaling="none", merge="della_bench.merge.whole:slerp", takes=("weights",), experts=1, weights_within=(0, 1), weights_by_merge=True),
    Method("passthrough", "the one expert as it is, or scaled", "mergekit", scaling="none", merge="della_bench.merge.whole:passthrough", experts=1, uses_base=False, options=(SCALE,)),
)
# fmt: on

# Raised whenever a change here or in this package changes the bits of any merge; part of every spec's digest.
ALGORITHM_VERSION = 2

METHODS: dict[str, Method] = {row.name: row for row in (*AUTHORS_METHODS, *MERGEKIT_METHODS, *PAPER_METHODS)}
