"""The table of mergekit's methods: what each is here, and the defaults that mergekit 0.1.5 gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["COUNTERPARTS", "Counterpart"]


@dataclass(frozen=True)
class Counterpart:
    """What a mergekit method is here, with the defaults that mergekit gives it.

    None: the method does not have the parameter. options: those that only it has, with our names for them; where they
    are left out, our defaults are mergekit's.
    """

    name: str
    normalize: bool | None = False
    rescale: bool | None = None
    epsilon: bool = False
    weight: bool = True
    lambda_: bool = False
    base: Literal["needed", "an expert", "optional"] = "needed"
    options: Mapping[str, str] = field(default_factory=dict)
    per_model: tuple[str, ...] = ()  # those of the options that each model may have

    @property
    def of_models(self) -> tuple[str, ...]:
        """The parameters that each model may have: a weight and the like, unless the method has the name for itself."""
        return (*(key for key in ("weight", "density", "epsilon") if key not in self.options), *self.per_model)


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


COUNTERPARTS = {
    "linear": Counterpart("linear", normalize=True, base="an expert"),
    "slerp": Counterpart("slerp", normalize=None, weight=False),
    "passthrough": Counterpart(
        "passthrough", normalize=None, weight=False, base="an expert", options=_same("scale"), per_model=("scale",)
    ),
    "task_arithmetic": Counterpart("task_arithmetic", lambda_=True),
    "ties": Counterpart("ties", normalize=True, rescale=False, lambda_=True),
    "dare_linear": Counterpart("dare_linear", rescale=True, lambda_=True),
    "dare_ties": Counterpart("dare_ties", rescale=True, lambda_=True),
    "della": Counterpart("della", normalize=True, rescale=True, epsilon=True, lambda_=True),
    "della_linear": Counterpart("della_noelect", rescale=True, epsilon=True, lambda_=True),
    "breadcrumbs": Counterpart(
        "breadcrumbs", rescale=False, lambda_=True, options=_same("gamma"), per_model=("gamma",)
    ),
    "breadcrumbs_ties": Counterpart(
        "breadcrumbs_ties", rescale=False, lambda_=True, options=_same("gamma"), per_model=("gamma",)
    ),
    "model_stock": Counterpart("model_stock", normalize=None, weight=False, options=_same("filter_wise")),
    "sce": Counterpart("sce", normalize=None, weight=False, options=_same("select_topk")),
    "nuslerp": Counterpart(
        "nuslerp", normalize=None, base="optional", options=_same("nuslerp_flatten", "nuslerp_row_wise")
    ),
    "multislerp": Counterpart(
        "multislerp", normalize=None, base="optional", options={"eps": "eps", "normalize_weights": "normalize"}
    ),
    "karcher": Counterpart("karcher", normalize=None, weight=False, base="an expert", options=_same("max_iter", "tol")),
    "nearswap": Counterpart("nearswap", normalize=None, weight=False, options=_same("t")),
    "arcee_fusion": Counterpart("arcee_fusion", normalize=None, weight=False),
    "ram": Counterpart("ram", normalize=None, weight=False, options={"epsilon": "threshold"}),
    "ramplus_tl": Counterpart(
        "ramplus_tl", normalize=None, weight=False, options={"r": "r", "alpha": "alpha", "epsilon": "threshold"}
    ),
}
