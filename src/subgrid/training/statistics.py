"""Transforms fitted on the training split: float64 statistics of features and targets, one pass, block by block."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.columns.statistics import ChannelStatistics
from subgrid.columns.store import Split
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.transforms import ChannelRange


def split_channels(
    values: NDArray[np.float64], profiles: int, levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flat (channel,) -> (level, P) and (S,)."""
    cut = profiles * levels
    return values[:cut].reshape(profiles, levels).T.copy(), values[cut:].copy()


def feature_statistics(emulator: Emulator, split: Split) -> ChannelStatistics:
    """Statistics of the emulator's features over a split, merged in block order."""
    n_profiles = len(emulator.features.profile_names)
    total: ChannelStatistics | None = None
    for block in range(split.blocks):
        x = torch.from_numpy(split.read_variables(emulator.variables.inputs, block))
        with torch.inference_mode():
            features = flatten(*emulator.features(*unflatten(x, n_profiles, emulator.grid.n_levels)))
        found = ChannelStatistics.of(features.numpy())
        total = found if total is None else total.merge(found)
    return total or ChannelStatistics.empty(0)


def _channel_range(fields: dict[str, NDArray[np.float64]], profiles: int, levels: int) -> ChannelRange:
    parts = {name: split_channels(values, profiles, levels) for name, values in fields.items()}
    return ChannelRange(mean=parts["mean"], std=parts["std"], low=parts["min"], high=parts["max"])


def fit_transforms(emulator: Emulator, split: Split) -> None:
    """Fill the emulator's input and output transforms from the training split.

    Raises:
        SubgridError: the split holds NaN or infinity.
    """
    levels = emulator.grid.n_levels
    shape = emulator.network.shape
    features = feature_statistics(emulator, split).summary()
    emulator.inputs.fill(_channel_range(features, shape.profiles_in, levels))
    targets = split.variable_statistics(emulator.variables.targets)
    emulator.outputs.fill(_channel_range(targets, shape.profiles_out, levels))
