"""Merge methods that mergekit knows and the DELLA authors' code does not, with mergekit's defaults for their own keys.

Each function is named and not imported: to read a spec takes no torch. `mergekit.py` reads mergekit's YAML.
"""

from __future__ import annotations

from della_bench.spec.method import Method
from della_bench.spec.option import Option

__all__ = ["MERGEKIT_METHODS"]

_HOME = "della_bench.merge.methods"
_BREADCRUMBS = "Model Breadcrumbs, arXiv:2312.06795"
_RAM = "RAM, arXiv:2601.13572"

_GAMMA = Option("gamma", "share of the largest magnitudes that is dropped", default=0.01, least=0, most=1, each=True)
_DELTAS = Option("deltas", "interpolate what the experts add to the base, not their weights", bool, default=True)
_THRESHOLD = Option("threshold", "magnitude above which a delta parameter counts as changed", default=1e-5, least=0)

MERGEKIT_METHODS: tuple[Method, ...] = (
    Method(
        "breadcrumbs",
        "drops the smallest and the largest magnitudes, sum",
        _BREADCRUMBS,
        drop=f"{_HOME}.breadcrumbs:keep_middle",
        takes=("seed", "rescale"),
        options=(_GAMMA,),
        version="1",
    ),
    Method(
        "breadcrumbs_ties",
        "drops the smallest and the largest magnitudes, elected sum",
        _BREADCRUMBS,
        drop=f"{_HOME}.breadcrumbs:keep_middle",
        elect="sum",
        takes=("seed", "rescale"),
        options=(_GAMMA,),
        version="1",
    ),
    Method(
        "model_stock",
        "from the base towards the experts' mean, as far as their angles say",
        "Model Stock, arXiv:2403.19522",
        merge=f"{_HOME}.model_stock:model_stock",
        least_experts=2,
        options=(Option("filter_wise", "give each row an angle of its own", bool, default=False),),
        pinned=False,
        version="1",
    ),
    Method(
        "sce",
        "keeps what varies most between experts, weighs them by their squares, elected mean",
        "SCE, arXiv:2408.07990",
        merge=f"{_HOME}.sce:sce",
        takes=("seed",),
        options=(
            Option("select_topk", "share of the varying delta parameters that is kept", default=1.0, least=0, most=1),
        ),
        version="1",
    ),
    Method(
        "nuslerp",
        "spherical interpolation between two experts",
        "mergekit",
        merge=f"{_HOME}.nuslerp:nuslerp",
        takes=("weights",),
        experts=2,
        options=(
            Option("nuslerp_flatten", "take a tensor as one vector", bool, default=True),
            Option("nuslerp_row_wise", "vectors along the first dimension, not the last", bool, default=False),
            _DELTAS,
        ),
        pinned=False,
        version="1",
    ),
    Method(
        "multislerp",
        "spherical interpolation between any number of experts, around their mean direction",
        "mergekit",
        merge=f"{_HOME}.multislerp:multislerp",
        takes=("weights", "normalize"),
        normalize=True,
        options=(Option("eps", "smallest length that counts as one", default=1e-8, least=0), _DELTAS),
        version="1",
    ),
    Method(
        "karcher",
        "Karcher mean of the experts' directions, of their mean length",
        "arXiv:2603.04972",
        merge=f"{_HOME}.karcher:karcher",
        uses_base=False,
        options=(
            Option("max_iter", "most steps of the iteration", int, default=10, least=0),
            Option("tol", "length of a step, an angle or a tensor that counts as none", default=1e-5, least=0),
        ),
        version="1",
    ),
    Method(
        "nearswap",
        "from the base to one expert, wholly where they nearly agree",
        "mergekit",
        merge=f"{_HOME}.nearswap:nearswap",
        experts=1,
        options=(Option("t", "distance up to which a weight becomes the expert's", least=0),),
        version="1",
    ),
    Method(
        "arcee_fusion",
        "takes the one expert's weights where they matter most",
        "mergekit",
        merge=f"{_HOME}.arcee_fusion:arcee_fusion",
        experts=1,
        pinned=False,
        version="1",
    ),
    Method(
        "ram",
        "sum of what one expert changed, mean of what several did",
        _RAM,
        merge=f"{_HOME}.ram:ram",
        options=(_THRESHOLD,),
        version="1",
    ),
    Method(
        "ramplus_tl",
        "ram, what one expert changed scaled up by how much it shares",
        _RAM,
        merge=f"{_HOME}.ram:ramplus_tl",
        options=(
            Option("r", "how strongly a tensor's shared part scales up its own", default=0.1),
            Option("alpha", "most of the shared part per own part that counts", default=0.2, least=0),
            _THRESHOLD,
        ),
        version="1",
    ),
)
