"""Merge methods of recent papers that need no data, beside which merges are often compared.

Each function is named and not imported: to read a spec takes no torch.
"""

from __future__ import annotations

from della_bench.spec.method import Method
from della_bench.spec.option import Option

__all__ = ["PAPER_METHODS"]

_HOME = "della_bench.merge.methods"
_CONSENSUS = "arXiv:2405.07813"
_ISOTROPIC = "arXiv:2502.04959"

_MASKS = (
    Option("mask_lambda", "how strict an expert's mask is (the paper: 0.2 to 0.6)", default=0.4, least=0, each=True),
    Option("agree", "how many experts' masks must hold an element", int, default=2, least=0),
)

PAPER_METHODS: tuple[Method, ...] = (
    Method(
        "tsv_merge",
        "singular vectors of all experts, made orthogonal",
        "TSV-M, arXiv:2412.00081",
        merge=f"{_HOME}.tsv_merge:tsv_merge",
        takes=("weights", "lambda"),
        pinned=False,
        version="1",
    ),
    Method(
        "iso_c",
        "sum of the deltas, its singular values set to their mean",
        f"Iso-C, {_ISOTROPIC}",
        merge=f"{_HOME}.isotropic:iso_c",
        takes=("weights", "lambda"),
        pinned=False,
        version="1",
    ),
    Method(
        "iso_cts",
        "iso_c, some directions replaced by those of single experts",
        f"Iso-CTS, {_ISOTROPIC}",
        merge=f"{_HOME}.isotropic:iso_cts",
        takes=("weights", "lambda"),
        options=(
            Option("common_space_fraction", "share of directions that is the sum's", default=0.8, least=0, most=1),
        ),
        pinned=False,
        version="1",
    ),
    Method(
        "pcb",
        "weighs each element by its size and its agreement, drops the least",
        "PCB-Merging, arXiv:2410.02396",
        merge=f"{_HOME}.pcb:pcb",
        takes=("weights", "density", "lambda", "seed"),
        pinned=False,
        version="1",
    ),
    Method(
        "consensus_ta",
        "sum of the deltas, where several experts need it",
        f"Consensus TA, {_CONSENSUS}",
        merge=f"{_HOME}.consensus:consensus_ta",
        takes=("weights", "lambda"),
        least_experts=2,
        options=_MASKS,
        version="1",
    ),
    Method(
        "consensus_ties",
        "elected sum of the largest magnitudes, where several experts need it",
        f"Consensus TIES, {_CONSENSUS}",
        merge=f"{_HOME}.consensus:consensus_ties",
        takes=("weights", "density", "lambda", "seed"),
        least_experts=2,
        options=_MASKS,
        version="1",
    ),
    Method(
        "wudi",
        "the delta that interferes least with the experts' inputs",
        "WUDI-Merging, arXiv:2503.08099",
        merge=f"{_HOME}.wudi:wudi",
        takes=("weights", "lambda"),
        options=(
            Option("iterations", "steps of the optimiser", int, default=300, least=0),
            Option("learning_rate", "of the optimiser, Adam", default=1e-5, least=0),
        ),
        pinned=False,
        version="1",
    ),
)
