"""A one-dimensional ConvNeXt over levels, without coarser resolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import Heads, LevelBatchNorm, LevelConv, repeated
from subgrid.networks.registry import architecture

LAYER_SCALE = 1e-6


@dataclass(frozen=True)
class ConvNeXtConfig:
    """Settings of :class:`ConvNeXt`.

    Attributes:
        depths: blocks of each stage.
        channels: channels of each stage.
        layer_scale: what a block's own part is multiplied by at the start.

    Raises:
        UsageError: a setting is out of range, or the two lists differ in length.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    channels: tuple[int, ...] = (96, 192, 384, 768)
    layer_scale: float = LAYER_SCALE

    def __post_init__(self) -> None:
        if not self.depths or len(self.depths) != len(self.channels):
            raise UsageError(
                f"convnext.depths {list(self.depths)} and convnext.channels {list(self.channels)} must be as long"
            )
        if min(self.depths) < 1 or max(self.depths) > 100:
            raise UsageError(f"convnext.depths must lie in [1, 100], got {list(self.depths)}")
        if min(self.channels) < 1 or max(self.channels) > MOST_CHANNELS:
            raise UsageError(f"convnext.channels must lie in [1, {MOST_CHANNELS}], got {list(self.channels)}")


class _Block(nn.Module):
    """Depthwise convolution over 7 levels, batch norm, and a pointwise MLP of four times the width, added scaled."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.across = LevelConv(channels, channels, 7, groups=channels)
        self.norm = LevelBatchNorm(channels)
        self.rise = nn.Linear(channels, 4 * channels)
        self.fall = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.scale * self.fall(F.gelu(self.rise(self.norm(self.across(x)))))
        return y


class _Heads(nn.Module):
    """Level maps by a convolution; scalars by a linear layer on their whole maps."""

    def __init__(self, channels: int, shape: NetworkShape) -> None:
        super().__init__()
        self.profiles_out = shape.profiles_out
        self.maps = LevelConv(channels, shape.profiles_out + shape.scalars_out, 3)
        self.scalars = nn.Linear(shape.levels * shape.scalars_out, shape.scalars_out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(x)
        return maps[:, :, : self.profiles_out], self.scalars(maps[:, :, self.profiles_out :].flatten(1))


@architecture(
    "convnext",
    small=ConvNeXtConfig(depths=(1, 1), channels=(40, 48), layer_scale=0.1),
    paper=ConvNeXtConfig(),
)
class ConvNeXt(Network):
    """ConvNeXt (Liu et al. 2022, arXiv:2201.03545) in one dimension with batch norm and all levels kept.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Scalars are repeated over levels; a stem of
    kernel 4, stages of blocks with a convolution of kernel 2 between them, a head of kernel 3. With ``shape.heads``
    above 1 the head is there as often.

    Size ``paper`` is that of arXiv:2511.20963 after the fourth place of the ClimSim Kaggle competition: 26,805,429
    parameters at 60 levels with 9 + 17 inputs and 5 + 8 outputs. ``small`` starts its blocks at a scale of 0.1, as few
    blocks in short runs would otherwise hardly leave the identity.
    """

    def __init__(self, shape: NetworkShape, config: ConvNeXtConfig) -> None:
        super().__init__(shape, config)
        first = config.channels[0]
        layers: list[nn.Module] = [LevelConv(shape.profiles_in + shape.scalars_in, first, 4), LevelBatchNorm(first)]
        before = first
        for stage, (depth, channels) in enumerate(zip(config.depths, config.channels, strict=True)):
            if stage:
                layers += [LevelBatchNorm(before), LevelConv(before, channels, 2)]
            layers += [_Block(channels, config.layer_scale) for _ in range(depth)]
            before = channels
        self.body = nn.Sequential(*layers)
        self.heads = Heads(_Heads(before, shape) for _ in range(shape.heads))

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        p, s = self.heads(self.body(repeated(profiles, scalars)))
        return p, s
