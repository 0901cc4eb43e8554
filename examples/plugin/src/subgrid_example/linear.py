"""The architecture `linear`: every output is a weighted sum of every input of the column."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subgrid.networks import Network, NetworkShape, architecture


@dataclass(frozen=True)
class LinearConfig:
    """Settings of :class:`Linear`.

    Attributes:
        bias: add a constant to every output.
    """

    bias: bool = True


@architecture("linear", small=LinearConfig())
class Linear(Network):
    """One matrix from the flattened column to its flattened outputs."""

    def __init__(self, shape: NetworkShape, config: LinearConfig) -> None:
        super().__init__(shape, config)
        self.map = nn.Linear(shape.flat_in, shape.flat_out, bias=config.bias)
        self.levels, self.profiles_out = shape.levels, shape.profiles_out

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        y = self.map(torch.cat([profiles.flatten(1), scalars], dim=1))
        split = self.levels * self.profiles_out
        return y[:, :split].unflatten(1, [self.levels, self.profiles_out]), y[:, split:]
