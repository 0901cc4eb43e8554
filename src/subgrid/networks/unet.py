"""The U-Net over levels: residual convolution blocks on ever coarser levels and back.

Maps inside are ``(n, channel, 1, level)`` with channels adjacent in memory: torch has such ("channels last")
kernels for two dimensions only, and they are the fast ones where levels are few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.registry import architecture

NEAR_ZERO_GAIN = 1e-5
ATTENTION_GAIN = math.sqrt(0.2)


@dataclass(frozen=True)
class UNetConfig:
    """Settings of :class:`UNet`.

    Attributes:
        channels: channels at full resolution; at least ``group_channels``.
        multipliers: channels at each resolution as multiples of ``channels``; each entry after the first
            halves the number of levels.
        blocks: blocks per resolution on the way down; the way up has one more.
        group_channels: least number of channels per normalisation group. Few groups are faster, on a CPU
            by much.
        attention: let the coarsest levels attend to one another (single head).
        dropout: probability of dropping a value before the second convolution of a block, in training.
        positive_scalars: pass the level maps of the output scalars through a ReLU before their level mean,
            as published. Only for non-negative scalars in units whose zero stays zero.

    Raises:
        UsageError: a setting is out of range.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    group_channels: int = 4
    attention: bool = True
    dropout: float = 0.0
    positive_scalars: bool = False

    def __post_init__(self) -> None:
        if self.group_channels < 1:
            raise UsageError(f"unet.group_channels must be at least 1, got {self.group_channels}")
        if self.channels < self.group_channels:
            raise UsageError(
                f"unet.channels must be at least group_channels = {self.group_channels}, got {self.channels}"
            )
        if not self.multipliers or min(self.multipliers) < 1:
            raise UsageError(f"unet.multipliers needs entries >= 1, got {list(self.multipliers)}")
        if max(self.multipliers) * self.channels > MOST_CHANNELS:
            raise UsageError(f"unet.channels x unet.multipliers may be at most {MOST_CHANNELS}")
        if not 1 <= self.blocks <= 100:
            raise UsageError(f"unet.blocks must lie in [1, 100], got {self.blocks}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"unet.dropout must be in [0, 1), got {self.dropout}")


def _convolution(channels_in: int, channels_out: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    """A convolution over levels that keeps their number: Xavier-uniform times ``gain``, zero bias."""
    convolution = nn.Conv2d(channels_in, channels_out, (1, kernel), padding=(0, kernel // 2))
    nn.init.xavier_uniform_(convolution.weight, gain)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


class _GroupNorm(nn.GroupNorm):
    """Torch's, without its look at the batch size, which makes a tracer warn, and always in its weights' precision.

    Where torch mixes precisions on a CPU it would normalise in bfloat16, which takes it four times as long as in
    float32; on a GPU it takes float32 by itself.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x.to(self.weight.dtype), self.num_groups, self.weight, self.bias, self.eps)


def _group_norm(channels: int, config: UNetConfig) -> nn.GroupNorm:
    """At most 32 groups of at least ``group_channels`` channels each: the most that divide ``channels``."""
    most = min(32, channels // config.group_channels)
    groups = next(count for count in range(most, 0, -1) if channels % count == 0)
    return _GroupNorm(groups, channels, eps=1e-6)


class _Halve(nn.Module):
    """The mean of each pair of levels, filter [1, 1] / 2: ``(n, c, 1, level) -> (n, c, 1, level / 2)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, [1, 2])


class _Double(nn.Module):
    """Each level twice, filter [1, 1]: ``(n, c, 1, level) -> (n, c, 1, 2 level)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=[1.0, 2.0], mode="nearest")


class _Attention(nn.Module):
    """Single-head attention among levels, added to its input: ``(n, c, 1, level)`` to the same."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm = _group_norm(channels, config)
        self.query_key_value = _convolution(channels, 3 * channels, 1, ATTENTION_GAIN)
        self.project = _convolution(channels, channels, 1, NEAR_ZERO_GAIN)
        self.scale = 1.0 / math.sqrt(channels)

    def forward(self, x: Tensor) -> Tensor:
        by_level = self.query_key_value(self.norm(x)).squeeze(2).transpose(1, 2)
        query, key, value = by_level.chunk(3, dim=2)  # each (n, level, c)
        weights = torch.softmax(torch.bmm(query * self.scale, key.transpose(1, 2)), dim=2)
        mixed = torch.bmm(weights, value).transpose(1, 2).unsqueeze(2)
        y: Tensor = (x + self.project(mixed)) * math.sqrt(0.5)
        return y


class _Block(nn.Module):
    """A pre-norm residual block, ``(n, channels_in, 1, level) -> (n, channels_out, 1, resampled level)``.

    GN-SiLU-resample-conv3-GN-dropout-conv3, plus the resampled input, times ``sqrt(0.5)``; attention last.
    The input goes through a 1x1 convolution where the block changes channels or resolution.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        config: UNetConfig,
        resample: nn.Module | None = None,
        attention: bool = False,
    ) -> None:
        super().__init__()
        straight = resample is None and channels_in == channels_out
        self.norm1 = _group_norm(channels_in, config)
        self.resample = nn.Identity() if resample is None else resample
        self.convolution1 = _convolution(channels_in, channels_out, 3)
        self.norm2 = _group_norm(channels_out, config)
        self.dropout = nn.Dropout(config.dropout)
        self.convolution2 = _convolution(channels_out, channels_out, 3, NEAR_ZERO_GAIN)
        self.skip = nn.Identity() if straight else _convolution(channels_in, channels_out, 1)
        self.attention = _Attention(channels_out, config) if attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution1(self.resample(F.silu(self.norm1(x))))
        y = self.convolution2(self.dropout(self.norm2(y)))
        y = self.attention((y + self.skip(self.resample(x))) * math.sqrt(0.5))
        return y


class _Rise(nn.Module):
    """One resolution on the way up: enter it, then merge the outputs kept on the way down, last one first.

    ``(n, channels_in, 1, level) -> (n, width, 1, level here)``; takes what it merges off ``kept``.
    """

    def __init__(self, enter: nn.Module, channels: int, kept: list[int], width: int, config: UNetConfig) -> None:
        super().__init__()
        self.enter = enter
        before = [channels, *[width] * (len(kept) - 1)]
        self.merge = nn.ModuleList(_Block(a + b, width, config) for a, b in zip(before, kept, strict=True))

    def forward(self, x: Tensor, kept: list[Tensor]) -> Tensor:
        x = self.enter(x)
        for block in self.merge:
            x = block(torch.cat([x, kept.pop()], dim=1))
        return x


class _Head(nn.Module):
    """The level maps of one set of outputs, ``(n, c, 1, level) -> (n, level, outputs)``."""

    def __init__(self, channels: int, shape: NetworkShape, config: UNetConfig) -> None:
        super().__init__()
        self.norm = _group_norm(channels, config)
        self.convolution = _convolution(channels, shape.profiles_out + shape.scalars_out, 3, NEAR_ZERO_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(F.silu(self.norm(x))).squeeze(2).transpose(1, 2)
        return y


@architecture(
    "unet",
    small=UNetConfig(channels=16, multipliers=(1, 2), blocks=1, group_channels=16),
    paper=UNetConfig(positive_scalars=True),
)
class UNet(Network):
    """A one-dimensional U-Net over levels, for any number of levels from 4.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Scalars are repeated over levels and
    stacked under the profiles; zero levels are added at the top until the coarsest resolution is whole, and
    cropped from the result. Output scalars are means over the remaining levels of their level maps.

    Size ``paper`` is the U-Net of ClimSim-online (arXiv:2407.00124) as set up in the architecture comparison
    of arXiv:2511.20963: the "DDPM++" network of Song et al. (2021, arXiv:2011.13456) in the form of Karras et
    al. (2022, arXiv:2206.00364), in one dimension and without noise embeddings. With 60 levels, 9 + 17 inputs
    and 5 + 8 outputs it has the published 12,975,373 trainable parameters. The original also holds 592,384
    untrained ones in 1x1 convolutions frozen at the identity: just what one on each of the 12 connections
    from the way down to the way up holds (4 of 128 channels, 8 of 256). They change nothing, so they are
    left out.

    Size ``small`` costs 0.63 MFLOP for a column of 8 levels with 4 + 16 inputs and 4 + 13 outputs.

    Not in the network: the published code also sets some outputs of the top levels to zero. That is a
    property of the variables, and belongs to the emulator.
    """

    def __init__(self, shape: NetworkShape, config: UNetConfig) -> None:
        super().__init__(shape, config)
        widths = [config.channels * multiplier for multiplier in config.multipliers]
        self.levels = shape.levels
        self.padding = -shape.levels % 2 ** (len(widths) - 1)
        self.profiles_out = shape.profiles_out
        self.down = self._way_down(shape.profiles_in + shape.scalars_in, widths, config)
        self.up = self._way_up(widths, config)
        self.heads = nn.ModuleList(_Head(widths[0], shape, config) for _ in range(shape.heads))
        self.scalar_activation = nn.ReLU() if config.positive_scalars else nn.Identity()

    @staticmethod
    def _way_down(inputs: int, widths: list[int], config: UNetConfig) -> nn.ModuleList:
        """The stem and the blocks of each resolution; every one's output is kept for the way up."""
        down: list[nn.Module] = [_convolution(inputs, widths[0], 3)]
        before = widths[0]
        for depth, width in enumerate(widths):
            if depth > 0:
                down.append(_Block(before, before, config, _Halve()))
            for _ in range(config.blocks):
                down.append(_Block(before, width, config))
                before = width
        return nn.ModuleList(down)

    @staticmethod
    def _way_up(widths: list[int], config: UNetConfig) -> nn.ModuleList:
        """One stage per resolution, coarsest first."""
        kept = [widths[0]]  # channels of each output of the way down
        for depth, width in enumerate(widths):
            kept += [widths[depth - 1]] * (depth > 0) + [width] * config.blocks
        bottom = _Block(widths[-1], widths[-1], config, attention=config.attention)
        enter: nn.Module = nn.Sequential(bottom, _Block(widths[-1], widths[-1], config))
        up = nn.ModuleList()
        before = widths[-1]
        for stage, width in enumerate(reversed(widths)):
            if stage > 0:
                enter = _Block(before, before, config, _Double())
            up.append(_Rise(enter, before, [kept.pop() for _ in range(config.blocks + 1)], width, config))
            before = width
        return up

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        repeated = scalars.unsqueeze(1).expand(-1, self.levels, -1)
        column = F.pad(torch.cat([profiles, repeated], dim=2), [0, 0, self.padding, 0])
        x = column.transpose(1, 2).unsqueeze(2)
        kept: list[Tensor] = []
        for block in self.down:
            x = block(x)
            kept.append(x)
        for rise in self.up:
            x = rise(x, kept)
        found_profiles, found_scalars = [], []
        for k, head in enumerate(self.heads):
            y = head(x)[:, self.padding :]
            maps = y[:, :, self.profiles_out :]
            found_profiles.append(y[:, :, : self.profiles_out])
            # What a further head gives (a confidence) may have either sign.
            found_scalars.append((self.scalar_activation(maps) if k == 0 else maps).mean(dim=1))
        return torch.cat(found_profiles, dim=2), torch.cat(found_scalars, dim=1)
