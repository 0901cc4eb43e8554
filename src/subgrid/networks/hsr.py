"""Heteroskedastic regression: one network for the mean, one for the precision of each output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, NetworkShape
from subgrid.networks.columns import Split, joined, normed_layers
from subgrid.networks.probabilistic import ProbabilisticNetwork, column_noise
from subgrid.networks.registry import architecture

#: Share of training in which the mean alone learns.
MEAN_ALONE = 1.0 / 3.0
#: Logarithms of precisions are kept within this, on outputs of unit spread.
MOST_LOG_PRECISION = 12.0


@dataclass(frozen=True)
class HSRConfig:
    """Settings of :class:`HSR`.

    Attributes:
        widths: hidden layers of each of the two networks.
        dropout: probability of dropping a hidden value in training.

    Raises:
        UsageError: a setting is out of range.
    """

    widths: tuple[int, ...] = (512, 512)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or max(self.widths) > MOST_CHANNELS:
            raise UsageError(f"hsr.widths must be a list within [1, {MOST_CHANNELS}], got {list(self.widths)}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"hsr.dropout must be in [0, 1), got {self.dropout}")


@architecture("hsr", small=HSRConfig(widths=(256, 256)), paper=HSRConfig())
class HSR(ProbabilisticNetwork):
    """ClimSim's heteroskedastic regression (Yu et al. 2023; Wong-Toi et al. 2023, arXiv:2306.16717).

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))`` is the mean of a normal distribution of
    independent outputs. Each network is [Linear, LayerNorm, dropout, ReLU] layers and a linear one. The squared error
    of the mean is the loss of the first third of training, then ``precision (y - mean)^2 - log precision``. The
    published width is not stated: size ``paper`` has the code's default of 512.
    """

    def __init__(self, shape: NetworkShape, config: HSRConfig) -> None:
        super().__init__(shape, config)
        self.mean = self._network(shape, config)
        self.log_precision = self._network(shape, config)
        self.split = Split(shape)

    @staticmethod
    def _network(shape: NetworkShape, config: HSRConfig) -> nn.Sequential:
        last = nn.Linear(config.widths[-1], shape.flat_out)
        return nn.Sequential(normed_layers(shape.flat_in, config.widths, config.dropout), last)

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        p, s = self.split(self.mean(joined(profiles, scalars)))
        return p, s

    def distribution(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log precision of the flat outputs, (n, flat_out)."""
        column = joined(profiles, scalars)
        log_precision = self.log_precision(column).float()
        return self.mean(column).float(), log_precision.clamp(-MOST_LOG_PRECISION, MOST_LOG_PRECISION)

    @torch.jit.ignore
    def losses(
        self, profiles: Tensor, scalars: Tensor, true_profiles: Tensor, true_scalars: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Squared error, or twice the negative logarithm of the density without its constant."""
        mean, log_precision = self.distribution(profiles, scalars)
        loss = (joined(true_profiles, true_scalars) - mean).square()
        if self.progress >= MEAN_ALONE:
            loss = log_precision.exp() * loss - log_precision
        p, s = self.split(loss)
        return p, s

    @torch.jit.ignore
    def sample(self, profiles: Tensor, scalars: Tensor, members: int, generator: torch.Generator) -> list[Tensor]:
        """Independent draws, (member, n, level, P) and (member, n, S)."""
        mean, log_precision = self.distribution(profiles, scalars)
        noise = torch.randn(members, *mean.shape, generator=generator).to(mean)
        return list(self.split(mean + (-0.5 * log_precision).exp() * noise))

    @torch.jit.ignore
    def member(self, profiles: Tensor, scalars: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """A draw whose noise the column and ``seed`` decide."""
        mean, log_precision = self.distribution(profiles, scalars)
        noise = column_noise(joined(profiles, scalars), mean.shape[1], seed)
        p, s = self.split(mean + (-0.5 * log_precision).exp() * noise)
        return p, s
