"""An expert's tensors as the merge sees them: by the base's names and in its shapes."""

from __future__ import annotations

from dataclasses import dataclass, field

from della_bench.checkpoint.model import ModelFolder
from della_bench.checkpoint.tensor import HostTensor, TensorInfo

__all__ = ["Fit"]


@dataclass(frozen=True)
class Fit:
    """How an expert's tensors fit the base's.

    `parameters` are the merge's: the base's, and a head where the base has none of its own but an expert has.
    `names` maps each to its name in the expert; one that the expert lacks, and its model does not need, is the base's.
    """

    expert: ModelFolder
    names: dict[str, str]
    base: ModelFolder
    parameters: dict[str, TensorInfo] = field(repr=False)
    heads: dict[str, str] = field(default_factory=dict)  # parameters that in the base are another one: its embedding
    left_out: tuple[str, ...] = ()  # tensors of the expert that the base's model has no place for

    @property
    def lacking(self) -> list[str]:
        """The parameters that the expert lacks."""
        return [
            name
            for name, info in self.parameters.items()
            if info.is_float and name not in self.names and self.expert.concerns(name)
        ]

    def tensor(self, name: str) -> HostTensor:
        """Return the expert's tensor in the base's shape: extra vocabulary rows cut, missing ones the base's."""
        tensor, shape = self.own_tensor(name), self.parameters[name].shape
        if tensor.shape == shape:
            return tensor
        rows, own = shape[0], tensor.to_torch()
        if len(own) > rows:
            return HostTensor.of(own[:rows])
        import torch

        base = self._of_base(name).to_torch()
        dtype = torch.promote_types(own.dtype, base.dtype)  # the base's rows must stay what they are
        return HostTensor.of(torch.cat([own.to(dtype), base[len(own) :].to(dtype)]))

    def own_tensor(self, name: str) -> HostTensor:
        """Return the expert's tensor as it has it, whatever its shape; the base's where it has none."""
        return self.expert.tensor(self.names[name]) if name in self.names else self._of_base(name)

    def own_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `own_tensor`."""
        if name in self.names:
            return self.expert.tensors[self.names[name]].shape
        return self.base.tensors[self.heads.get(name, name)].shape

    def _of_base(self, name: str) -> HostTensor:
        return self.base.tensor(self.heads.get(name, name))
