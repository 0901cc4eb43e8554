"""An encoder-decoder of the whole column beside it, then recurrent layers over levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.networks.base import MOST_CHANNELS, Network, NetworkShape
from subgrid.networks.levels import LevelGRU, LevelLSTM, repeated
from subgrid.networks.registry import architecture

#: Widths of the encoder per input channel, as shares of the number of levels (15, 8 and 4 at 60).
BOTTLENECK = (15 / 60, 8 / 60, 4 / 60)


@dataclass(frozen=True)
class EncDecLSTMConfig:
    """Settings of :class:`EncDecLSTM`.

    Attributes:
        hidden: width of the LSTMs in each direction.
        layers: number of stacked bidirectional LSTMs.
        dropout: between them, in training.
        recurrent_out: width of the GRU after them in each direction.
        head: width of the hidden layer before the outputs (0: none).

    Raises:
        UsageError: a setting is out of range.
    """

    hidden: int = 512
    layers: int = 3
    dropout: float = 0.09
    recurrent_out: int = 16
    head: int = 960

    def __post_init__(self) -> None:
        for name in ("hidden", "recurrent_out"):
            if not 1 <= getattr(self, name) <= MOST_CHANNELS:
                raise UsageError(f"encdec_lstm.{name} must lie in [1, {MOST_CHANNELS}], got {getattr(self, name)}")
        if not 0 <= self.head <= MOST_CHANNELS:
            raise UsageError(f"encdec_lstm.head must lie in [0, {MOST_CHANNELS}], got {self.head}")
        if not 1 <= self.layers <= 100:
            raise UsageError(f"encdec_lstm.layers must lie in [1, 100], got {self.layers}")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"encdec_lstm.dropout must be in [0, 1), got {self.dropout}")


def _chain(widths: list[int]) -> nn.Sequential:
    """Linear layers with ReLU between them; Xavier-uniform weights, zero biases."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        linear = nn.Linear(a, b)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@architecture(
    "encdec_lstm",
    small=EncDecLSTMConfig(hidden=24, layers=2, dropout=0.0, recurrent_out=8, head=0),
    paper=EncDecLSTMConfig(),
)
class EncDecLSTM(Network):
    """A narrow encoder and decoder of the flattened column, concatenated with it, then LSTMs and a GRU over levels.

    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, profiles_out), scalars (n, scalars_out))``. With V input channels on every level (scalars
    repeated) the flattened column goes 60V-15V-8V-4V and back (at other numbers of levels in the same proportion), ReLU
    between. The GRU's map is flattened for the output layers. With ``shape.heads`` above 1 these are there as often.

    Size ``paper`` is the encoder-decoder LSTM of arXiv:2511.20963 after the fifth place of the ClimSim Kaggle
    competition: 18,582,976 parameters at 60 levels with 9 + 17 inputs and 5 + 8 outputs.
    """

    def __init__(self, shape: NetworkShape, config: EncDecLSTMConfig) -> None:
        super().__init__(shape, config)
        channels = shape.profiles_in + shape.scalars_in
        inner = [channels * max(1, round(shape.levels * share)) for share in BOTTLENECK]
        whole = shape.levels * channels
        self.encoder = _chain([whole, *inner])
        self.decoder = _chain([*reversed(inner), whole])
        self.lstm = LevelLSTM(2 * channels, config.hidden, config.layers, config.dropout)
        self.gru = LevelGRU(2 * config.hidden, config.recurrent_out)
        widths = [shape.levels * 2 * config.recurrent_out, *[config.head] * (config.head > 0), shape.flat_out]
        self.heads = nn.ModuleList(_chain(widths) for _ in range(shape.heads))
        self.levels, self.profiles_out = shape.levels, shape.profiles_out

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        x = repeated(profiles, scalars)
        again = self.decoder(self.encoder(x.flatten(1))).view(x.shape)
        y = self.gru(self.lstm(torch.cat([x, again], dim=2))).flatten(1)
        split = self.levels * self.profiles_out
        found_profiles, found_scalars = [], []
        for head in self.heads:
            flat = head(y)
            found_profiles.append(flat[:, :split].unflatten(1, [self.levels, self.profiles_out]))
            found_scalars.append(flat[:, split:])
        return torch.cat(found_profiles, dim=2), torch.cat(found_scalars, dim=1)
