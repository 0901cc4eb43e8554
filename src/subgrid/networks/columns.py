"""Layers on whole columns as one vector ``(n, channel)``: flattening, splitting, and a stack of hidden layers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from subgrid.networks.base import NetworkShape


def joined(profiles: Tensor, scalars: Tensor) -> Tensor:
    """Profiles, level after level, and then the scalars, as one vector a column."""
    return torch.cat([profiles.flatten(1), scalars], dim=1)


class Split(nn.Module):
    """A vector ``(..., flat_out)`` to ``(..., level, profiles_out)`` and ``(..., scalars_out)``."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.levels, self.profiles = shape.levels, shape.profiles_out

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Split."""
        cut = self.levels * self.profiles
        return y[..., :cut].unflatten(-1, [self.levels, self.profiles]), y[..., cut:]


def normed_layers(width_in: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """[Linear, LayerNorm, dropout, ReLU] for each of ``widths``."""
    layers: list[nn.Module] = []
    for a, b in pairwise((width_in, *widths)):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.Dropout(dropout), nn.ReLU()]
    return nn.Sequential(*layers)
