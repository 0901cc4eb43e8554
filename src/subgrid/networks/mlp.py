"""The multilayer perceptron: the whole column flattened into one vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError, unknown_name
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.registry import architecture

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.15),  # the slope of the ClimSim baseline
}


@dataclass(frozen=True)
class MLPConfig:
    """Settings of :class:`MLP`.

    Attributes:
        widths: width of each hidden layer.
        activation: one of ``gelu``, ``relu``, ``silu``, ``leaky_relu`` (slope 0.15).
        residual: add a hidden layer's input to its output where both have the same width.
        dropout: probability of dropping a hidden value in training.
        positive_scalars: pass the output scalars through a ReLU, as ClimSim does. Only for non-negative
            scalars in units whose zero stays zero; off by default, as fluxes may have either sign.

    Raises:
        UsageError: a setting is out of range.
    """

    widths: tuple[int, ...] = (384, 384, 384)
    activation: str = "gelu"
    residual: bool = True
    dropout: float = 0.0
    positive_scalars: bool = False

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise UsageError(f"mlp.widths needs at least one width, each >= 1, got {list(self.widths)}")
        if max(self.widths) > MOST_CHANNELS:
            raise UsageError(f"mlp.widths may be at most {MOST_CHANNELS} each, got {max(self.widths)}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"mlp.dropout must be in [0, 1), got {self.dropout}")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("mlp.activation", self.activation, ACTIVATIONS)


class _Hidden(nn.Module):
    """``dropout(activation(W x + b))``, plus ``x`` where ``skip``: ``(n, width_in) -> (n, width_out)``."""

    def __init__(self, width_in: int, width_out: int, config: MLPConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.skip = config.residual and width_in == width_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.activation(self.linear(x)))
        if self.skip:
            y = x + y
        return y


@architecture(
    "mlp",
    small=MLPConfig(),
    paper=MLPConfig(widths=(768, 640, 512, 640, 640), activation="leaky_relu", residual=False),
)
class MLP(Network):
    """Flattened column -> hidden layers -> linear output, split into profiles and scalars.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Weights start as torch's ``Linear``
    does (uniform, bounded by ``1/sqrt(fan_in)``).

    Size ``paper`` has the layers of ClimSim's MLP baseline (Yu et al. 2023, arXiv:2306.08754):
    768-640-512-640-640 with LeakyReLU 0.15; the ReLU of its last outputs is ``positive_scalars``. Size
    ``small`` costs 0.66 MFLOP for a column of 8 levels (48 numbers in, 45 out).
    """

    def __init__(self, shape: NetworkShape, config: MLPConfig) -> None:
        super().__init__(shape, config)
        widths = (shape.flat_in, *config.widths)
        self.hidden = nn.Sequential(*(_Hidden(a, b, config) for a, b in pairwise(widths)))
        self.output = nn.Linear(widths[-1], shape.heads * shape.flat_out)
        self.scalar_activation = nn.ReLU() if config.positive_scalars else nn.Identity()
        self.heads, self.levels, self.profiles_out = shape.heads, shape.levels, shape.profiles_out

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        column = torch.cat([profiles.flatten(1), scalars], dim=1)
        y = self.output(self.hidden(column)).unflatten(1, [self.heads, -1])
        split = self.levels * self.profiles_out
        head_profiles = y[:, :, :split].unflatten(2, [self.levels, self.profiles_out])
        head_scalars = y[:, :, split:]
        # only predictions are known to be positive, not what further heads say of them
        head_scalars = torch.cat([self.scalar_activation(head_scalars[:, :1]), head_scalars[:, 1:]], dim=1)
        return head_profiles.transpose(1, 2).flatten(2), head_scalars.flatten(1)
