"""Inputs normalised as ClimSim publishes it: cloud through 1 - exp(-rate q), means and ranges from its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrid.columns.normalisation import CLOUDS, PublishedNormalisation
from subgrid.columns.variables import Variable, VariableSet, profiles, scalars
from subgrid.emulator.transforms import ChannelRange, Standardise, inverse_spread

#: Range of normalised relative humidity, which the published statistics leave as it is.
HUMIDITY = (0.0, 1.2)
#: Targets that are pruned at the top: waters and winds.
PRUNED = (
    "specific_humidity_tendency",
    "cloud_liquid_tendency",
    "cloud_ice_tendency",
    "cloud_water_tendency",
    "u_wind_tendency",
    "v_wind_tendency",
)
_LARGEST = float(np.finfo(np.float32).max)
Floats = NDArray[np.float64]
Channels = tuple[Floats, Floats]


class OfficialInputs(Standardise):
    """``(x - mean) / (max - min)``, cloud first as ``1 - exp(-rate q)``; what is not finite gives 0.

    Relative humidity is kept within 0 and 1.2. A channel without range, or with a range that float32 cannot resolve
    beside the mean, gives 0.
    """

    def __init__(self, levels: int, profiles: int, scalars: int) -> None:
        super().__init__(levels, profiles, scalars)
        for name in ("rate", "floor", "ceiling"):
            self.register_buffer(f"profile_{name}", torch.zeros(levels, profiles))

    def fill_published(
        self, published: PublishedNormalisation, variables: VariableSet, prune: int, low: Channels, high: Channels
    ) -> None:
        """Set the buffers.

        Args:
            published: the statistics.
            variables: the emulator's, in the order of the channels.
            prune: cloud inputs of so many levels from the top become 0.
            low, high: range of the raw inputs in the training columns, (level, P) and (S,).

        Raises:
            SubgridError: shapes do not fit.
        """
        own = profiles(variables.inputs)
        mean, span = _channels(published.mean, variables.inputs), _channels(published.span, variables.inputs)
        for k, variable in enumerate(own):
            if variable.name in CLOUDS:
                span[0][:prune, k] = 0.0
        inverse = tuple(inverse_spread(m, s) for m, s in zip(mean, span, strict=True))
        # a channel that gives 0 needs no mean, and may have none
        mean = (np.where(inverse[0] > 0, mean[0], 0.0), np.where(inverse[1] > 0, mean[1], 0.0))
        held = self.get_buffer("profile_mean")
        rate = np.zeros(tuple(held.shape))
        bounds = np.full((2, *held.shape), [[[-_LARGEST]], [[_LARGEST]]])
        for k, variable in enumerate(own):
            if variable.name in published.rate:
                rate[:, k] = published.rate[variable.name]
            if variable.quantity == "relative_humidity":
                bounds[:, :, k] = np.asarray(HUMIDITY)[:, None]
        for name, values in (("rate", rate), ("floor", bounds[0]), ("ceiling", bounds[1])):
            self.get_buffer(f"profile_{name}").copy_(torch.from_numpy(values))
        self.fill(ChannelRange(mean, span, mean, mean), cast(Channels, inverse))
        self._fill_range(low, high)

    def _fill_range(self, low: Channels, high: Channels) -> None:
        """The range in normalised units: every channel's transform rises or is constant."""
        for name, ends in (("low", low), ("high", high)):
            raw = (torch.from_numpy(part).to(self.get_buffer("scalar_mean").dtype)[None] for part in ends)
            p, s = self(*raw)
            self.get_buffer(f"profile_{name}").copy_(p[0])
            self.get_buffer(f"scalar_{name}").copy_(s[0])

    def forward(self, profiles: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise."""
        rate = cast(Tensor, self.profile_rate)
        profiles = torch.where(rate > 0, -torch.expm1(-rate * profiles), profiles)
        p, s = super().forward(profiles, scalars)
        p = torch.minimum(
            torch.maximum(_finite(p), cast(Tensor, self.profile_floor)), cast(Tensor, self.profile_ceiling)
        )
        return p, _finite(s)


def input_statistics(
    mean: Mapping[str, Floats], span: Mapping[str, Floats], variables: VariableSet, low: Channels, high: Channels
) -> tuple[ChannelRange, Channels]:
    """What fills inputs of ``(x - mean) / span``, and 1 / span; what has no span or is not finite gives 0.

    Args:
        mean, span: by variable name.
        variables: the emulator's.
        low, high: range of the inputs in the training columns, (level, P) and (S,).
    """
    means, spans = _channels(mean, variables.inputs), _channels(span, variables.inputs)
    usable = tuple(
        np.isfinite(m) & np.isfinite(s) & (inverse_spread(m, s) > 0) for m, s in zip(means, spans, strict=True)
    )
    centre, spread = (
        tuple(np.where(good, values, 0.0) for good, values in zip(usable, found, strict=True))
        for found in (means, spans)
    )
    inverse = tuple(np.where(good, 1.0 / np.where(good, s, 1.0), 0.0) for good, s in zip(usable, spans, strict=True))
    found = ChannelRange(cast(Channels, centre), cast(Channels, spread), low, high)
    return found, cast(Channels, inverse)


def output_statistics(
    published: Mapping[str, Floats], variables: VariableSet, prune: int, low: Channels, high: Channels
) -> tuple[ChannelRange, Channels]:
    """What fills the emulator's outputs: ``y_n = y scale``, and the scale; pruned channels are constant at 0.

    Args:
        published: the scales by variable name.
        variables: the emulator's.
        prune: targets of :data:`PRUNED` at so many levels from the top are 0.
        low, high: range of the targets in the training columns, (level, P) and (S,).
    """
    scale = _channels(published, variables.targets)
    for k, variable in enumerate(profiles(variables.targets)):
        if variable.quantity in PRUNED:
            scale[0][:prune, k] = 0.0
    usable = tuple(np.isfinite(s) & (s > 0) & (s < _LARGEST) for s in scale)
    inverse = tuple(np.where(good, s, 0.0) for good, s in zip(usable, scale, strict=True))
    std = tuple(np.where(good, 1.0 / np.where(good, s, 1.0), 0.0) for good, s in zip(usable, scale, strict=True))
    zeros = tuple(np.zeros_like(s) for s in scale)
    found = ChannelRange(cast(Channels, zeros), cast(Channels, std), low, high)
    return found, cast(Channels, inverse)


def _channels(values: object, variables: tuple[Variable, ...]) -> Channels:
    """Values by variable name as (level, P) and (S,)."""
    held = cast(dict[str, NDArray[np.float64]], values)
    found = [held[v.name] for v in profiles(variables)]
    return np.stack(found, axis=1), np.array([float(held[v.name]) for v in scalars(variables)])


def _finite(values: Tensor) -> Tensor:
    """NaN and infinity as 0."""
    return torch.where(values.abs() <= _LARGEST, values, torch.zeros_like(values))
