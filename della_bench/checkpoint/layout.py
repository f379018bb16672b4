"""Which row of which model each token of a merge has, worked out from the tokens' strings alone.

The rules are mergekit's (`mergekit.tokenizer.embed`, 0.1.5). A model that has a token keeps its own row for it. One
that lacks it gets the row of the one model that has it, else the base's, else the mean of those that have it, else
zeros. `tokens` of the spec may name another row, and force it on all models.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from della_bench.checkpoint.model import ModelFolder
from della_bench.errors import CheckpointError
from della_bench.spec import Source
from della_bench.spec.vocabulary import TokenRow

__all__ = ["Fill", "Ids", "Layout", "TokenLists", "lay_out"]

log = logging.getLogger(__name__)

Ids = np.ndarray[Any, np.dtype[np.int64]]
_FEW = 3  # tokens that a message shows
_NONE = -1  # in the place of a row


@dataclass(frozen=True)
class TokenLists:
    """The models of a merge, the base first, each with the ids of its tokens and the number of its rows.

    A token whose id is beyond the rows is one that the model lacks.
    """

    ids: Mapping[ModelFolder, Mapping[str, int]]
    rows: Mapping[ModelFolder, int]

    def row(self, model: ModelFolder, token: str) -> int:
        """Return a token's row in a model, -1 where it has none."""
        found = self.ids[model].get(token, _NONE)
        return found if found < self.rows[model] else _NONE


@dataclass(frozen=True)
class Fill:
    """Rows for tokens that some models lack: each the mean of one row of each of `models`, or zeros without any.

    ids: the tokens, (tokens,). rows: where they are in the models, (tokens, models).
    """

    ids: Ids
    models: tuple[ModelFolder, ...]
    rows: Ids


@dataclass(frozen=True)
class Layout:
    """The rows of embedding and head: `size` of them, those of `token_ids` with a token and the others padding.

    `rows` has for each model where each id is in its own embedding, -1 where it gets its row from `fills`: (size,).
    """

    size: int
    token_ids: Ids
    rows: dict[ModelFolder, Ids]
    fills: list[Fill]


def lay_out(
    vocabulary: Mapping[str, int],
    lists: TokenLists,
    settings: Sequence[TokenRow],
    models: Mapping[Source, ModelFolder],
    multiple: int = 1,
) -> Layout:
    """Return the layout of a vocabulary (id by token), with as many rows of padding as make `multiple` divide them.

    settings: the spec's `tokens`, whose sources `models` opens. Tokens that no model has, and those beyond a model's
    rows, are logged as warnings. Raises CheckpointError that lists every row to be taken from a model that lacks it.
    """
    ids = np.array(sorted(vocabulary.values()), np.int64)
    size = int(ids[-1]) + 1
    size += -size % multiple
    rows = {model: np.full(size, _NONE, np.int64) for model in lists.ids}
    for model, own in rows.items():
        for token, i in vocabulary.items():
            own[i] = lists.row(model, token)
        if beyond := [token for token in vocabulary if lists.ids[model].get(token, 0) >= lists.rows[model]]:
            log.warning("%s: has no rows for %s of its tokenizer: taken to lack them", model.label, _some(beyond))
    wanted = _settled(settings, lists, models)
    nowhere = []
    by_models: dict[tuple[ModelFolder, ...], list[tuple[int, list[int]]]] = {}
    for token, i in sorted(vocabulary.items(), key=lambda item: item[1]):
        holders = [model for model in rows if rows[model][i] != _NONE]
        force, found = wanted.get(token, (False, None))
        if len(holders) == len(rows) and not force:
            continue
        if found is None:
            found = {model: int(rows[model][i]) for model in _owners(holders, next(iter(rows)))}
            if not found:
                nowhere.append(token)
        if force:
            for own in rows.values():
                own[i] = _NONE
        by_models.setdefault(tuple(found), []).append((i, list(found.values())))
    if nowhere:
        log.warning("no model has %s: zeros are taken", _some(nowhere))
    return Layout(size, ids, rows, [_fill(owners, items) for owners, items in by_models.items()])


def _owners(holders: list[ModelFolder], base: ModelFolder) -> list[ModelFolder]:
    """Return the models whose rows, in the mean, those get that lack a token."""
    return [base] if base in holders else holders


def _fill(models: tuple[ModelFolder, ...], items: list[tuple[int, list[int]]]) -> Fill:
    where = np.array([found for _, found in items], np.int64).reshape(len(items), len(models))
    return Fill(np.array([i for i, _ in items], np.int64), models, where)


def _settled(
    settings: Sequence[TokenRow], lists: TokenLists, models: Mapping[Source, ModelFolder]
) -> dict[str, tuple[bool, dict[ModelFolder, int] | None]]:
    """Return for each token that is set whether its row is forced, and its row by model; None for the common rule."""
    settled: dict[str, tuple[bool, dict[ModelFolder, int] | None]] = {}
    faults = []
    for setting in settings:
        found: dict[ModelFolder, int] | None = {} if setting.zero else None
        if setting.source is not None:
            model = models[setting.source]
            asked = setting.token if setting.other is None else setting.other
            row = asked if isinstance(asked, int) else lists.row(model, asked)
            if not 0 <= row < lists.rows[model]:
                what = f"row {asked}" if isinstance(asked, int) else f"token {asked!r}"
                faults.append(
                    f"tokens: the row of {setting.token!r} is to come from {model.label}, which has no {what}"
                )
            found = {model: row}
        settled[setting.token] = (setting.force, found)
    if faults:
        raise CheckpointError("\n".join(faults))
    return settled


def _some(tokens: Sequence[str]) -> str:
    shown = ", ".join(map(repr, tokens[:_FEW])) + (", ..." if len(tokens) > _FEW else "")
    return f"{len(tokens)} token{'s' if len(tokens) != 1 else ''} ({shown})"
