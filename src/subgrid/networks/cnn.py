"""The convolutional baseline of ClimSim: residual blocks over levels, without normalisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import Heads, LevelConv, repeated
from subgrid.networks.registry import architecture


@dataclass(frozen=True)
class CNNConfig:
    """Settings of :class:`CNN`.

    Attributes:
        blocks: residual blocks.
        channels: channels of each.
        kernel: levels that a convolution sees.
        dropout: probability of dropping a value in training.
        positive_scalars: pass the output scalars through a ReLU, as ClimSim does.

    Raises:
        UsageError: a setting is out of range.
    """

    blocks: int = 12
    channels: int = 406
    kernel: int = 3
    dropout: float = 0.175
    positive_scalars: bool = False

    def __post_init__(self) -> None:
        for name, most in (("blocks", 200), ("channels", MOST_CHANNELS), ("kernel", 63)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(f"cnn.{name} must lie in [1, {most}], got {getattr(self, name)}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"cnn.dropout must be in [0, 1), got {self.dropout}")


class _Block(nn.Module):
    """Two convolutions, each with ReLU and dropout, added to a pointwise copy of the input."""

    def __init__(self, channels_in: int, config: CNNConfig) -> None:
        super().__init__()
        self.first = LevelConv(channels_in, config.channels, config.kernel)
        self.second = LevelConv(config.channels, config.channels, config.kernel)
        self.skip = nn.Linear(channels_in, config.channels)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(F.relu(self.first(x)))
        y = self.dropout(F.relu(self.second(y)))
        found: Tensor = y + self.skip(x)
        return found


class _Head(nn.Module):
    """Pointwise to one channel an output, ELU; a dense layer for profiles, another on the mean over levels."""

    def __init__(self, config: CNNConfig, shape: NetworkShape) -> None:
        super().__init__()
        outputs = shape.profiles_out + shape.scalars_out
        self.maps = nn.Linear(config.channels, outputs)
        self.profiles = nn.Linear(outputs, shape.profiles_out)
        self.scalars = nn.Linear(outputs, shape.scalars_out)
        self.positive = config.positive_scalars

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = F.elu(self.maps(x))
        scalars = self.scalars(maps)
        if self.positive:
            scalars = F.relu(scalars)
        return self.profiles(maps), scalars.mean(1)


@architecture("cnn", small=CNNConfig(blocks=3, channels=40, dropout=0.0), paper=CNNConfig())
class CNN(Network):
    """ClimSim's convolutional network (Yu et al. 2023, NeurIPS Datasets and Benchmarks).

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Scalars are repeated over levels. An output
    scalar is the mean over levels of one that each level gives. With ``shape.heads`` above 1 the head is there as
    often. Size ``paper`` has 12 blocks of 406 channels and dropout 0.175.
    """

    def __init__(self, shape: NetworkShape, config: CNNConfig) -> None:
        super().__init__(shape, config)
        widths = [shape.profiles_in + shape.scalars_in] + [config.channels] * (config.blocks - 1)
        self.body = nn.Sequential(*(_Block(width, config) for width in widths))
        self.heads = Heads(_Head(config, shape) for _ in range(shape.heads))

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        p, s = self.heads(self.body(repeated(profiles, scalars)))
        return p, s
