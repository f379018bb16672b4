"""Which tensor of an expert is which of the base's, and which of those without a partner make the two no fit.

What only one side has and its model does not need is no mismatch: layers that predict several tokens at once (`mtp.*`),
a value head of reinforcement learning, a classifier's `score.weight`, the vision tower of a model that also comes as
text alone. What a model needs is asked of transformers (`Architecture`); where it does not know the model, every tensor
is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from della_bench.checkpoint.architecture import Architectures
from della_bench.checkpoint.canonical import EMBEDDING, HEAD, align, is_tied, parameters, vocab_size
from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import TensorInfo

__all__ = ["Pairing", "pair"]


@dataclass(frozen=True)
class Pairing:
    """How an expert's tensors meet the base's.

    `names` maps the base's parameters to the expert's. `head` is (a head that only the expert has, the embedding that
    is the base's head). `left_out` are other tensors that only the expert has. `faults` is empty where the two fit.
    """

    names: dict[str, str]
    head: tuple[str, str] | None
    left_out: tuple[str, ...]
    faults: tuple[str, ...]


def pair(base: ModelFolder, expert: ModelFolder, known: Architectures) -> Pairing:
    """Pair the tensors of two checkpoints by name, then by where transformers puts them."""
    return _Pairs(base, expert, known).pairing()


class _Pairs:
    def __init__(self, base: ModelFolder, expert: ModelFolder, known: Architectures) -> None:
        self.base, self.expert = base, expert
        self.wanted, self.own = parameters(base), parameters(expert)
        self.names = align(self.wanted, self.own)
        self.known = known
        self.faults: list[str] = []
        self.head: tuple[str, str] | None = None

    def pairing(self) -> Pairing:
        if not self._are_same_kind():
            fault = f"{self.expert.label}: is a {self.expert.model_type}, but {self.base.label} is a"
            return Pairing({}, None, (), (f"{fault} {self.base.model_type}",))
        if any(self._without_partner()):
            self._pair_by_place()
            self._pair_heads()
        missing, extra = self._without_partner()
        self.faults += [
            f"{self.expert.label}: {name} is missing; the base has {self.wanted[name]}"
            for name in missing
            if self._is_needed(self.base, name)
        ]
        self._compare()
        odd = {name for name in extra if self.expert.must_fit(name) or self._is_needed(self.expert, name)}
        self.faults += [
            f"{self.expert.label}: {name} is {self.own[name]}; the base has no such parameter"
            for name in extra
            if name in odd
        ]
        if self.expert.hint and self.faults:
            self.faults.append(f"{self.expert.label}: {self.expert.hint}")
        left_out = tuple(name for name in extra if name not in odd)
        return Pairing(self.names, self.head, left_out, tuple(self.faults))

    def _are_same_kind(self) -> bool:
        """Whether both are of one architecture, or one is the text part of the other."""
        types = self.base.model_type, self.expert.model_type
        if types[0] == types[1]:
            return True
        both = self.known.of(self.base), self.known.of(self.expert)
        return any(one is not None and one.text_type == type_ for one, type_ in zip(both, reversed(types), strict=True))

    def _without_partner(self) -> tuple[list[str], list[str]]:
        """Return the base's and the expert's float tensors that have no partner; others come from the base anyway."""
        taken = set(self.names.values())
        if self.head:
            taken.add(self.names[self.head[0]])
        return (
            [
                name
                for name, info in self.wanted.items()
                if info.is_float and name not in self.names and self.expert.concerns(name)
            ],
            [name for name, info in self.own.items() if info.is_float and name not in taken],
        )

    def _pair_by_place(self) -> None:
        """Pair what transformers loads into one parameter, whatever year's layout names it."""
        ours, theirs = self.known.of(self.base), self.known.of(self.expert)
        if ours is None or theirs is None:
            return
        missing, extra = self._without_partner()
        places = {theirs.place(name): name for name in extra}
        self.names |= {name: places[place] for name in missing if (place := ours.place(name)) in places}

    def _pair_heads(self) -> None:
        """Give a head that one side ties to its embedding the embedding as its partner."""
        missing, extra = self._without_partner()
        embedding = next((name for name in self.wanted if self._is_embedding(name)), None)
        if embedding not in self.names:
            return
        head = next((name for name in missing if self._is_head(self.base, name)), None)
        if head is not None and is_tied(self.expert):
            self.names[head] = self.names[embedding]
        head = next((name for name in extra if self._is_head(self.expert, name)), None)
        if head is not None and is_tied(self.base):
            self.names[head] = head
            self.head = (head, embedding)

    def _compare(self) -> None:
        for name, own in self.names.items():
            info, other = self.wanted.get(name), self.own[own]
            if info is None or not info.is_float:
                continue
            reason = "" if other.is_float else ", which cannot be merged"
            if reason or (other.shape != info.shape and not self._is_vocabulary(name, info, other)):
                self.faults.append(f"{self.expert.label}: {name} is {other}{reason}; the base has {info}")

    def _is_vocabulary(self, name: str, info: TensorInfo, other: TensorInfo) -> bool:
        """Whether two tensors differ only in how many tokens there are: rows of an embedding or of a head."""
        if not info.shape or not other.shape or info.shape[1:] != other.shape[1:]:
            return False
        if info.shape[0] == vocab_size(self.base.config) and other.shape[0] == vocab_size(self.expert.config):
            return True
        if self.expert.must_fit(self.names[name]):
            return False
        return self._is_head(self.base, name) or self._is_embedding(name)  # configs are not always told of new rows

    def _is_needed(self, source: ModelFolder, name: str) -> bool:
        architecture = self.known.of(source)
        return architecture is None or architecture.needs(name)

    def _is_head(self, source: ModelFolder, name: str) -> bool:
        architecture = self.known.of(source)
        return architecture.is_head(name) if architecture else bool(HEAD.search(name))

    def _is_embedding(self, name: str) -> bool:
        architecture = self.known.of(self.base)
        return architecture.is_embedding(name) if architecture else bool(EMBEDDING.search(name))
