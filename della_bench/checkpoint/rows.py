"""Embedding and head with their rows where a merge's vocabulary has them: what `Fit.tensor` gives under `tokenizer`.

Nothing behind this door knows of vocabularies: every model has tensors of one shape, row by row of the same token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.canonical import EMBEDDING, HEAD
from della_bench.checkpoint.fit import Fit
from della_bench.checkpoint.layout import Layout
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import HostTensor, TensorInfo
from della_bench.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["aligned"]

_BLOCK = 4096  # rows that are added up at a time

_TIED_HEADS_BIAS = re.compile(r"(^|\.)(lm_head|vocab_projector|predictions)(\.decoder)?\.bias$")


@dataclass(frozen=True)
class _AlignedFit(Fit):
    """A fit whose embedding and head have the rows of a layout."""

    rows: _Rows | None = None

    def tensor(self, name: str) -> HostTensor:
        assert self.rows is not None
        return self.rows.tensor(self, name) if name in self.rows.names else super().tensor(name)


def aligned(fits: Sequence[Fit], layout: Layout) -> list[Fit]:
    """Return the fits of a merge, the base's own first, with embedding and head in the rows of a layout.

    Raises CheckpointError for each tensor that lacks the row of a token which its model has.
    """
    base, parameters = fits[0].base, fits[0].parameters
    names = _vocabulary_names(base, parameters)
    if faults := [fault for fit in fits for name in sorted(names) if (fault := _too_few_rows(fit, name, layout))]:
        raise CheckpointError("\n".join(dict.fromkeys(faults)))
    rows = _Rows(layout, {fit.expert.origin: fit for fit in fits}, names)
    resized = {
        name: replace(info, shape=(layout.size, *info.shape[1:])) if name in names else info
        for name, info in parameters.items()
    }
    return [_AlignedFit(fit.expert, fit.names, fit.base, resized, fit.heads, fit.left_out, rows) for fit in fits]


def _too_few_rows(fit: Fit, name: str, layout: Layout) -> str:
    """Return the fault of a tensor with fewer rows than the model's tokens need, else ""."""
    model = fit.expert.origin
    filled = [fill.rows[:, fill.models.index(model)] for fill in layout.fills if model in fill.models]
    needed = 1 + max((int(rows.max()) for rows in (layout.rows[model], *filled) if rows.size), default=-1)
    rows = fit.own_shape(name)[0]
    if rows >= needed:
        return ""
    return (
        f"{fit.expert.label}: {fit.names.get(name, name)} has {rows} rows, and the tokens of its model need {needed}: "
        "embedding and head are to have the same tokens"
    )


def _vocabulary_names(base: ModelFolder, parameters: dict[str, TensorInfo]) -> frozenset[str]:
    """Return the parameters that have a row for each token: embedding, head, and the head's bias.

    The bias may lie beside a head that is tied to the embedding and not stored, as in models of masked tokens.
    """
    architecture = Architectures(base).of(base)

    def is_one(name: str) -> bool:
        weight = name.removesuffix("bias") + "weight" if name.endswith(".bias") else name
        if architecture is None:
            return bool(HEAD.search(weight) or (EMBEDDING.search(name)))
        return architecture.is_head(weight) or architecture.is_embedding(name)

    found = {name for name, info in parameters.items() if info.is_float and is_one(name)}
    rows = {parameters[name].shape[0] for name in found}
    biases = (name for name in parameters if _TIED_HEADS_BIAS.search(name))
    return frozenset(found | {name for name in biases if parameters[name].shape in {(count,) for count in rows}})


class _Rows:
    """The rows of all models, taken from where they lie in each."""

    def __init__(self, layout: Layout, fits: dict[ModelFolder, Fit], names: frozenset[str]) -> None:
        self._layout, self._fits, self.names = layout, fits, names

    def tensor(self, fit: Fit, name: str) -> HostTensor:
        """Return a model's tensor in the layout's rows.

        Its dtype is as wide as all that its rows come from: the base's, too, so that a row which all models have from
        one has no delta.
        """
        import torch

        rows, own = self._layout.rows[fit.expert.origin], fit.own_tensor(name)
        if len(rows) == own.shape[0] and np.array_equal(rows, np.arange(len(rows))):
            return own
        missing = rows < 0
        fills = [(fill, here) for fill in self._layout.fills if (here := missing[fill.ids]).any()]
        sources = {
            model: self._fits[model].own_tensor(name).to_torch()
            for model in dict.fromkeys(model for fill, _ in fills for model in fill.models)
        }
        mine = own.to_torch()
        dtype = mine.dtype
        for source in sources.values():
            dtype = torch.promote_types(dtype, source.dtype)
        made = torch.zeros((len(rows), *mine.shape[1:]), dtype=dtype)
        there = torch.from_numpy(np.flatnonzero(~missing))
        made[there] = mine[torch.from_numpy(rows[~missing])].to(dtype)
        for fill, here in fills:
            if fill.models:
                parts = [
                    sources[model][torch.from_numpy(fill.rows[here, place])] for place, model in enumerate(fill.models)
                ]
                made[torch.from_numpy(fill.ids[here])] = _mean(parts).to(dtype)
        if len(padding := np.setdiff1d(np.arange(len(rows)), self._layout.token_ids)):
            made[torch.from_numpy(padding)] = _mean_row(made, self._layout.token_ids)
        return HostTensor.of(made)


def _mean(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return the mean of tensors, added from left to right in float32; one alone stays as it is."""
    if len(parts) == 1:
        return parts[0]
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total / len(parts)


def _mean_row(tensor: torch.Tensor, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> torch.Tensor:
    """Return the mean of some rows in the tensor's dtype.

    Added in float64, row after row, by numpy: torch divides a sum among threads, which changes its last bits.
    """
    import torch

    total: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.zeros(tensor.shape[1:])
    for start in range(0, len(ids), _BLOCK):
        total = total + tensor[torch.from_numpy(ids[start : start + _BLOCK])].double().numpy().sum(axis=0)
    return torch.from_numpy(np.asarray(total / len(ids))).to(tensor.dtype)
