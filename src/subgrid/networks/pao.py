"""The network of Pao's Kaggle team: convolutions, transformer layers and LSTMs over levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import LevelBatchNorm, LevelConv, LevelLSTM
from subgrid.networks.registry import architecture
from subgrid.networks.squeezeformer import LevelAttention


@dataclass(frozen=True)
class PaoConfig:
    """Settings of :class:`Pao`.

    Attributes:
        channels: width of each of the two parts (profiles and scalars) of the maps, which are twice as wide.
        blocks: pairs of two convolutions and a transformer layer.
        attention_heads: of each transformer layer; divides ``2 x channels``.
        lstm_layers: stacked bidirectional LSTMs.
        paper_compatible: the published order of the profile outputs, whose maps are read variable after variable
            though they were written level after level. Needed only for published weights; it scrambles what a level
            can know of its own outputs.

    Raises:
        UsageError: a setting is out of range.
    """

    channels: int = 160
    blocks: int = 4
    attention_heads: int = 8
    lstm_layers: int = 2
    paper_compatible: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= MOST_CHANNELS // 4:
            raise UsageError(f"pao.channels must lie in [1, {MOST_CHANNELS // 4}], got {self.channels}")
        if self.attention_heads < 1 or 2 * self.channels % self.attention_heads:
            raise UsageError(f"pao.attention_heads={self.attention_heads} must divide 2 x channels={2 * self.channels}")
        for name in ("blocks", "lstm_layers"):
            if not 1 <= getattr(self, name) <= 100:
                raise UsageError(f"pao.{name} must lie in [1, 100], got {getattr(self, name)}")


class _ScalarsByLevel(nn.Module):
    """Scalars through two layers, then a linear layer of its own for each level: ``(n, S) -> (n, level, width)``."""

    def __init__(self, scalars: int, levels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(scalars, width),
            nn.BatchNorm1d(width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.GELU(),
        )
        bound = width**-0.5  # as torch's Linear
        self.weight = nn.Parameter(torch.empty(levels, width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(levels, width).uniform_(-bound, bound))

    def forward(self, scalars: Tensor) -> Tensor:
        y: Tensor = torch.einsum("ni,lio->nlo", self.body(scalars), self.weight) + self.bias
        return y


class _Transformer(nn.Module):
    """A post-norm encoder layer with ReLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = LevelAttention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        y: Tensor = self.norm2(x + self.mlp(x))
        return y


class _Convolutions(nn.Module):
    """Two convolutions over 5 levels, each with batch norm and GELU, beside their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [LevelConv(width, width, 5), LevelBatchNorm(width), nn.GELU()]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def _gelu_chain(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class _Heads(nn.Module):
    """Profiles level by level; scalars from the whole map."""

    def __init__(self, shape: NetworkShape, config: PaoConfig) -> None:
        super().__init__()
        width = 4 * config.channels
        self.profiles = _gelu_chain([width, width // 2, width // 2, width // 4, shape.profiles_out])
        self.scalars = _gelu_chain([width * shape.levels, width // 4, width // 4, shape.scalars_out])

    def forward(self, x: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        return self.profiles(x), self.scalars(flat)


@architecture("pao", small=PaoConfig(channels=12, blocks=1, attention_heads=2, lstm_layers=1), paper=PaoConfig())
class Pao(Network):
    """Profiles and scalars projected onto levels, convolution and transformer blocks, LSTMs, separate output layers.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Every input profile has a learned scale and
    offset on each level; scalars reach each level through a linear layer of its own. With ``shape.heads`` above 1 the
    output layers are there as often (the layer norm before the scalars' is shared).

    Size ``paper`` is the "Pao" network of arXiv:2511.20963, of the third place of the ClimSim Kaggle competition:
    18,876,133 parameters at 60 levels with 9 + 17 inputs and 5 + 8 outputs. The published code cannot run without the
    extra inputs (a missing squeeze) and reads its profile outputs in the wrong order; here both are right, and
    ``paper_compatible`` gives the published order.
    """

    def __init__(self, shape: NetworkShape, config: PaoConfig) -> None:
        super().__init__(shape, config)
        width, levels = config.channels, shape.levels
        self.scale = nn.Parameter(torch.ones(levels, shape.profiles_in))
        self.offset = nn.Parameter(torch.zeros(levels, shape.profiles_in))
        self.project = nn.Linear(shape.profiles_in, width)
        self.place = nn.Parameter(0.02 * torch.randn(levels, width))
        self.by_level = _ScalarsByLevel(shape.scalars_in, levels, width)
        self.norm = nn.LayerNorm(2 * width)
        blocks: list[nn.Module] = []
        for _ in range(config.blocks):
            blocks += [_Convolutions(2 * width), _Transformer(2 * width, config.attention_heads)]
        self.blocks = nn.Sequential(*blocks)
        self.lstm = LevelLSTM(2 * width, 2 * width, config.lstm_layers)
        self.flat_norm = nn.LayerNorm(4 * width * levels)
        self.heads = nn.ModuleList(_Heads(shape, config) for _ in range(shape.heads))
        self.scrambled = config.paper_compatible

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        # one layout: for others torch multiplies in an order that depends on whether the weight may be trained
        scaled = (profiles * self.scale + self.offset).contiguous()
        part = self.project(scaled) + self.place
        x = self.norm(torch.cat([part, self.by_level(scalars)], dim=2))
        x = self.lstm(self.blocks(x))
        flat = self.flat_norm(x.flatten(1))
        found_profiles, found_scalars = [], []
        for head in self.heads:
            p, s = head(x, flat)
            if self.scrambled:
                p = p.flatten(1).view(p.shape[0], p.shape[2], p.shape[1]).transpose(1, 2)
            found_profiles.append(p)
            found_scalars.append(s)
        return torch.cat(found_profiles, dim=2), torch.cat(found_scalars, dim=1)
