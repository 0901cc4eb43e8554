"""Layers on maps ``(n, level, channel)``: convolution and batch normalisation over levels, and reading a column."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LevelConv(nn.Module):
    """A convolution over levels that keeps their number, ``(n, level, channels_in) -> (n, level, channels_out)``.

    An even kernel reaches one level further down than up. Inside it is two-dimensional with channels adjacent in
    memory, for which torch has the fast kernels.

    Args:
        channels_in, channels_out: channels.
        kernel: levels that one output sees.
        groups: ``channels_in`` for a depthwise convolution.
        bias: whether to add one.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, (1, kernel), groups=groups, bias=bias)
        above = (kernel - 1) // 2
        self.padding = [0, 0, above, kernel - 1 - above]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        image = F.pad(x, self.padding).transpose(1, 2).unsqueeze(2)
        y: Tensor = self.conv(image).squeeze(2).transpose(1, 2)
        return y


class LevelBatchNorm(nn.Module):
    """Batch normalisation of each channel over columns and levels, ``(n, level, channel)`` to the same."""

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        y: Tensor = self.norm(x.flatten(0, 1)).view(x.shape)
        return y


class LevelLSTM(nn.LSTM):
    """A stack of bidirectional LSTMs along levels, ``(n, level, inputs) -> (n, level, 2 hidden)``.

    Torch's, from a zero state and without its look at the batch size, which makes a tracer warn.
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1, dropout: float = 0.0) -> None:
        between = dropout if layers > 1 else 0.0
        super().__init__(inputs, hidden, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """All levels' outputs of the last layer."""
        zeros = torch.zeros(2 * self.num_layers, x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
        return torch.lstm(
            x,
            [zeros, zeros],
            self._flat_weights,  # type: ignore[arg-type]
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            self.batch_first,
        )[0]


class LevelGRU(nn.GRU):
    """A bidirectional GRU along levels, as :class:`LevelLSTM`."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """All levels' outputs."""
        zeros = torch.zeros(2, x.shape[0], self.hidden_size, dtype=x.dtype, device=x.device)
        return torch.gru(
            x,
            zeros,
            self._flat_weights,  # type: ignore[arg-type]
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            self.batch_first,
        )[0]


class Heads(nn.ModuleList):
    """Heads side by side: profiles and scalars of all of them, one after the other."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = [head(x) for head in self]
        return torch.cat([p for p, _ in found], dim=2), torch.cat([s for _, s in found], dim=1)


def repeated(profiles: Tensor, scalars: Tensor) -> Tensor:
    """Profiles with the scalars repeated on every level, ``(n, level, profiles_in + scalars_in)``."""
    return torch.cat([profiles, scalars.unsqueeze(1).expand(-1, profiles.shape[1], -1)], dim=2)
