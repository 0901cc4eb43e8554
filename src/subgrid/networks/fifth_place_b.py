"""Family B of the fifth place of ClimSim's Kaggle competition: a deep LSTM over levels and a pooled column."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subgrid.base.errors import UsageError, unknown_name
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import LevelLSTM, repeated
from subgrid.networks.registry import architecture

POOLS = ("attention", "mean")
#: What inputs, LSTM and joined maps are divided by, and what the learned scale and bias of the outputs are.
INNER, OUTER = 5.0, 3.0


@dataclass(frozen=True)
class FifthPlaceBConfig:
    """Settings of :class:`FifthPlaceB`.

    Attributes:
        embedding: width of the layer before the LSTMs.
        hidden: width of the LSTMs in each direction.
        layers: number of stacked bidirectional LSTMs.
        inner: width of the layer after them.
        dropout: between the LSTMs, in training.
        pool: how the column's levels become one vector for the scalars, ``attention`` or ``mean``.

    Raises:
        UsageError: a setting is out of range.
    """

    embedding: int = 256
    hidden: int = 256
    layers: int = 6
    inner: int = 800
    dropout: float = 0.01
    pool: str = "attention"

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "inner"):
            if not 1 <= getattr(self, name) <= MOST_CHANNELS:
                raise UsageError(f"fifth_place_b.{name} must lie in [1, {MOST_CHANNELS}], got {getattr(self, name)}")
        if not 1 <= self.layers <= 100:
            raise UsageError(f"fifth_place_b.layers must lie in [1, 100], got {self.layers}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"fifth_place_b.dropout must be in [0, 1), got {self.dropout}")
        if self.pool not in POOLS:
            raise unknown_name("fifth_place_b.pool", self.pool, POOLS)


class _Pool(nn.Module):
    """(n, level, channel) to (n, channel): the mean over levels, or one weighted by a softmax of learned scores."""

    def __init__(self, channels: int, pool: str) -> None:
        super().__init__()
        self.score = nn.Linear(channels, 1) if pool == "attention" else nn.Identity()
        self.learned = pool == "attention"

    def forward(self, x: Tensor) -> Tensor:
        if self.learned:
            return (torch.softmax(self.score(x), dim=1) * x).sum(dim=1)
        return x.mean(dim=1)


class _ScaleBias(nn.Module):
    """``x scale / 3 + bias / 3`` with one learned pair for each output; begins as no change."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full(sizes, OUTER))
        self.bias = nn.Parameter(torch.zeros(sizes))
        self.shrink = OUTER

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale + self.bias) / self.shrink


class _Outputs(nn.Module):
    """One head: profiles level by level, scalars from the pooled column."""

    def __init__(self, shape: NetworkShape, config: FifthPlaceBConfig) -> None:
        super().__init__()
        self.profiles = nn.Sequential(
            nn.Linear(config.inner, shape.profiles_out), _ScaleBias(shape.levels, shape.profiles_out)
        )
        self.pool = _Pool(config.inner, config.pool)
        self.scalars = nn.Sequential(
            nn.Linear(config.inner, 2 * config.inner),
            nn.ELU(),
            nn.Linear(2 * config.inner, shape.scalars_out),
            _ScaleBias(shape.scalars_out),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.profiles(x), self.scalars(self.pool(x))


@architecture(
    "fifth_place_b",
    small=FifthPlaceBConfig(embedding=24, hidden=16, layers=2, inner=32, dropout=0.0),
    paper=FifthPlaceBConfig(),
    mean=FifthPlaceBConfig(embedding=300, hidden=280, pool="mean"),
    wide=FifthPlaceBConfig(hidden=320, inner=1024, dropout=0.05),
)
class FifthPlaceB(Network):
    """A level-wise embedding, a stack of LSTMs, and for each level a look at its neighbours and the whole column.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Scalars are repeated over levels. The LSTMs' map
    is joined with its mean over levels, its running mean over three levels (zeros beyond the ends) and the embedding;
    profiles are linear in what a layer makes of that, scalars come from it pooled over levels. With ``shape.heads``
    above 1 all after that layer is there as often.

    Sizes ``paper``, ``mean`` and ``wide`` are those that were entered as 888_AVG_ATT, 6_AVG and 749_AVG_ATT: 11.7, 13.6
    and 18.2 million parameters at 60 levels with 9 + 16 inputs and 6 + 8 outputs. 6_AVG also set the tendencies of
    cloud liquid on levels 25 and 26 to zero after the network, which is not done here.
    """

    def __init__(self, shape: NetworkShape, config: FifthPlaceBConfig) -> None:
        super().__init__(shape, config)
        self.embedding = nn.Linear(shape.profiles_in + shape.scalars_in, config.embedding)
        self.lstm = LevelLSTM(config.embedding, config.hidden, config.layers, config.dropout)
        self.inner = nn.Linear(3 * 2 * config.hidden + config.embedding, config.inner)
        self.heads = nn.ModuleList(_Outputs(shape, config) for _ in range(shape.heads))
        self.shrink = INNER

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        x = F.elu(self.embedding(repeated(profiles, scalars) / self.shrink))
        y = self.lstm(x / self.shrink)
        column = y.mean(dim=1, keepdim=True).expand(-1, y.shape[1], -1)
        around = F.avg_pool1d(y.transpose(1, 2), kernel_size=[3], stride=[1], padding=[1]).transpose(1, 2)
        z = F.elu(self.inner(torch.cat([y, column, around, x], dim=2) / self.shrink))
        found_profiles, found_scalars = [], []
        for head in self.heads:
            p, s = head(z)
            found_profiles.append(p)
            found_scalars.append(s)
        return torch.cat(found_profiles, dim=2), torch.cat(found_scalars, dim=1)
