"""The encoder-decoder baseline of ClimSim: a column through a bottleneck of five numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.columns import Split, joined
from subgrid.networks.registry import architecture


@dataclass(frozen=True)
class EDConfig:
    """Settings of :class:`ED`.

    Attributes:
        widths: of the encoder's layers, the last of which is the bottleneck; the decoder has them in reverse.
        paper_compatible: end in an ELU, as published, which can give nothing below -1.

    Raises:
        UsageError: a setting is out of range.
    """

    widths: tuple[int, ...] = (463, 463, 231, 115, 57, 28, 5)
    paper_compatible: bool = False

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > MOST_CHANNELS:
            raise UsageError(f"ed.widths must be a list within [1, {MOST_CHANNELS}], got {list(self.widths)}")


@architecture("ed", small=EDConfig(widths=(256, 256, 128, 64, 32)), paper=EDConfig())
class ED(Network):
    """ClimSim's encoder-decoder (Yu et al. 2023; after Behrens et al. 2022, doi:10.1029/2022MS003130).

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Layers of ReLU narrow the flat column to the
    bottleneck and widen it again. A further head has a last layer of its own. ``small`` has a bottleneck of 32.
    """

    def __init__(self, shape: NetworkShape, config: EDConfig) -> None:
        super().__init__(shape, config)
        layers: list[nn.Module] = []
        for a, b in pairwise((shape.flat_in, *config.widths, *config.widths[-2::-1])):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(config.widths[0], shape.heads * shape.flat_out)
        self.activation = nn.ELU() if config.paper_compatible else nn.Identity()
        self.heads = shape.heads
        self.split = Split(shape)

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        y = self.activation(self.output(self.layers(joined(profiles, scalars))))
        p, s = self.split(y.unflatten(1, [self.heads, -1]))
        return p.transpose(1, 2).flatten(2), s.flatten(1)
