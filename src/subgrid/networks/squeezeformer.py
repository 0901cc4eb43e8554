"""The Squeezeformer over levels: convolution blocks with channel attention between transformer layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import LevelBatchNorm, LevelConv, repeated
from subgrid.networks.registry import architecture

#: Keras counts what is kept of the running average, torch what is new: 0.95 of the one is 0.05 of the other.
KERAS_MOMENTUM = 0.95


@dataclass(frozen=True)
class SqueezeformerConfig:
    """Settings of :class:`Squeezeformer`.

    Attributes:
        channels: width of the maps; a multiple of ``attention_heads``.
        blocks: pairs of a convolution block and a transformer layer.
        attention_heads: of each transformer layer.
        kernel: levels of the depthwise convolution.
        expansion: channels of a block's inner maps as a multiple of ``channels``.
        head: width of the output layers.
        paper_compatible: the published momentum of batch norm, 0.95 in torch's sense, which all but forgets the
            running average (meant was Keras's 0.95, that is 0.05).

    Raises:
        UsageError: a setting is out of range.
    """

    channels: int = 384
    blocks: int = 12
    attention_heads: int = 4
    kernel: int = 15
    expansion: int = 2
    head: int = 2048
    paper_compatible: bool = False

    def __post_init__(self) -> None:
        if self.attention_heads < 1 or self.channels < 1 or self.channels % self.attention_heads:
            raise UsageError(
                f"squeezeformer.channels={self.channels} must be a multiple of attention_heads={self.attention_heads}"
            )
        if max(self.channels * self.expansion, self.head) > MOST_CHANNELS:
            raise UsageError(f"squeezeformer: no layer may be wider than {MOST_CHANNELS}")
        for name in ("expansion", "head", "kernel"):
            if getattr(self, name) < 1:
                raise UsageError(f"squeezeformer.{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.blocks <= 100:
            raise UsageError(f"squeezeformer.blocks must lie in [1, 100], got {self.blocks}")


class _ScaleBias(nn.Module):
    """A factor and an offset for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.bias


class _Gated(nn.Module):
    """A linear layer to ``2 x width`` channels, half of which gate the other: value * SiLU(gate)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.linear(x).chunk(2, dim=2)
        return value * F.silu(gate)


def _gated_mlp(channels: int, width: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(_Gated(channels, width), nn.Linear(width, channels_out))


class _LevelGate(nn.Module):
    """Efficient channel attention as published here: the channel mean, a convolution of 5 levels, a sigmoid gate."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = LevelConv(1, 1, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * torch.sigmoid(self.conv(x.mean(dim=2, keepdim=True)))
        return y


class _ConvBlock(nn.Module):
    """Gated rise, depthwise convolution, batch norm, level gate, fall; then a gated MLP; layer norm last."""

    def __init__(self, config: SqueezeformerConfig) -> None:
        super().__init__()
        channels, inner = config.channels, config.expansion * config.channels
        momentum = KERAS_MOMENTUM if config.paper_compatible else 1.0 - KERAS_MOMENTUM
        self.body = nn.Sequential(
            _Gated(channels, inner),
            LevelConv(inner, inner, config.kernel, groups=inner, bias=False),
            LevelBatchNorm(inner, momentum),
            nn.SiLU(),
            _LevelGate(),
            nn.Linear(inner, channels),
            _ScaleBias(channels),
        )
        self.mlp = nn.Sequential(_gated_mlp(channels, inner, channels), _ScaleBias(channels))
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.body(x)
        y: Tensor = self.norm(x + self.mlp(x))
        return y


class LevelAttention(nn.Module):
    """Multi-head attention among the levels of a column, ``(n, level, channel)`` to the same.

    By torch's fused kernels, but for training on a CPU: there their backward takes three to four times as long in
    bfloat16 as the products written out, and gains nothing in float32.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (channels // heads) ** -0.5
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.query_key_value.weight)
        for linear in (self.query_key_value, self.project):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        n, levels, channels = x.shape
        parts = self.query_key_value(x).view(n, levels, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        if self.training and not x.is_cuda:
            weights = torch.softmax(torch.matmul(query * self.scale, key.transpose(2, 3)), dim=3)
            mixed = torch.matmul(weights.to(value.dtype), value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        y: Tensor = self.project(mixed.transpose(1, 2).reshape(n, levels, channels))
        return y


class _Transformer(nn.Module):
    """Post-norm attention among levels and a gated MLP, each with a scale and a bias."""

    def __init__(self, config: SqueezeformerConfig) -> None:
        super().__init__()
        channels, inner = config.channels, config.expansion * config.channels
        self.attention = nn.Sequential(LevelAttention(channels, config.attention_heads), _ScaleBias(channels))
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(_gated_mlp(channels, inner, channels), _ScaleBias(channels))
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        y: Tensor = self.norm2(x + self.mlp(x))
        return y


@architecture(
    "squeezeformer",
    small=SqueezeformerConfig(channels=32, blocks=1, attention_heads=2, kernel=7, expansion=1, head=48),
    paper=SqueezeformerConfig(),
)
class Squeezeformer(Network):
    """Squeezeformer (Kim et al. 2022, arXiv:2206.00888) over levels.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Scalars are repeated over levels and output
    scalars are level means of their level maps. With ``shape.heads`` above 1 the last linear layer is there as often.

    Size ``paper`` is that of arXiv:2511.20963 after the first place of the ClimSim Kaggle competition: 44,785,225
    parameters at 60 levels with 9 + 17 inputs and 5 + 8 outputs.
    """

    def __init__(self, shape: NetworkShape, config: SqueezeformerConfig) -> None:
        super().__init__(shape, config)
        channels, head = config.channels, config.head
        layers: list[nn.Module] = [
            nn.Linear(shape.profiles_in + shape.scalars_in, channels, bias=False),
            nn.LayerNorm(channels),
        ]
        for _ in range(config.blocks):
            layers += [_ConvBlock(config), _Transformer(config)]
        # 2048 -> 768 -> 2048 in the published head: the inner width follows the maps, not the head.
        layers += [nn.Linear(channels, head), nn.SiLU(), _gated_mlp(head, config.expansion * channels, head)]
        self.body = nn.Sequential(*layers)
        self.profiles_out = shape.profiles_out
        self.heads = nn.ModuleList(nn.Linear(head, shape.profiles_out + shape.scalars_out) for _ in range(shape.heads))

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(repeated(profiles, scalars))
        found_profiles, found_scalars = [], []
        for head in self.heads:
            y = head(x)
            found_profiles.append(y[:, :, : self.profiles_out])
            found_scalars.append(y[:, :, self.profiles_out :].mean(dim=1))
        return torch.cat(found_profiles, dim=2), torch.cat(found_scalars, dim=1)
