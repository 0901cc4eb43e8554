"""A stack of bidirectional LSTMs over levels with residual mixing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import LevelLSTM, repeated
from subgrid.networks.registry import architecture


@dataclass(frozen=True)
class ResLSTMConfig:
    """Settings of :class:`ResLSTM`.

    Attributes:
        hidden: width of an LSTM in each direction.
        layers: number of bidirectional LSTMs.

    Raises:
        UsageError: a setting is out of range.
    """

    hidden: int = 256
    layers: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.hidden <= MOST_CHANNELS:
            raise UsageError(f"res_lstm.hidden must lie in [1, {MOST_CHANNELS}], got {self.hidden}")
        if not 1 <= self.layers <= 100:
            raise UsageError(f"res_lstm.layers must lie in [1, 100], got {self.layers}")


def _lstm(inputs: int, hidden: int) -> LevelLSTM:
    """A bidirectional LSTM: orthogonal recurrent weights, Xavier input weights, forget bias 1."""
    lstm = LevelLSTM(inputs, hidden)
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        elif name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                with torch.no_grad():
                    parameter[hidden : 2 * hidden] = 1.0  # gates in the order input, forget, cell, output
    return lstm


@architecture("res_lstm", small=ResLSTMConfig(hidden=24, layers=3), paper=ResLSTMConfig())
class ResLSTM(Network):
    """Bidirectional LSTMs over levels, each followed by a layer norm over the whole map of levels and channels.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. Scalars are repeated over levels. The first
    layer gives ``GELU(LN(lstm(x)))``, the others ``GELU(0.7 LN(lstm(x)) + 0.3 x)``. Output scalars are level means of
    their level maps. With ``shape.heads`` above 1 the last linear layer is there as often.

    Size ``paper`` is the "Pure ResLSTM" of arXiv:2511.20963, after the second place of the ClimSim Kaggle competition:
    15,395,341 parameters at 60 levels with 9 + 17 inputs and 5 + 8 outputs.
    """

    def __init__(self, shape: NetworkShape, config: ResLSTMConfig) -> None:
        super().__init__(shape, config)
        width = 2 * config.hidden
        inputs = [shape.profiles_in + shape.scalars_in, *[width] * (config.layers - 1)]
        self.lstms = nn.ModuleList(_lstm(size, config.hidden) for size in inputs)
        self.norms = nn.ModuleList(nn.LayerNorm([shape.levels, width]) for _ in inputs)
        self.profiles_out = shape.profiles_out
        #: Shares of a layer's own output and of the layer before in what goes on.
        self.new, self.old = 0.7, 0.3
        self.heads = nn.ModuleList(nn.Linear(width, shape.profiles_out + shape.scalars_out) for _ in range(shape.heads))

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        x = repeated(profiles, scalars)
        for k, (lstm, norm) in enumerate(zip(self.lstms, self.norms)):  # noqa: B905 - TorchScript knows no strict
            new = norm(lstm(x))
            x = F.gelu(new if k == 0 else self.new * new + self.old * x)
        found_profiles, found_scalars = [], []
        for head in self.heads:
            y = head(x)
            found_profiles.append(y[:, :, : self.profiles_out])
            found_scalars.append(y[:, :, self.profiles_out :].mean(dim=1))
        return torch.cat(found_profiles, dim=2), torch.cat(found_scalars, dim=1)
