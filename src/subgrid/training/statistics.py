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


def fit_transforms(emulator: Emulator, split: Split, extra: Split | None = None) -> None:
    """Fill the emulator's transforms: mean and spread of ``split``, range of ``split`` and ``extra`` together.

    Perturbed columns widen the range that is known, but the climate alone sets the units of the loss.

    Raises:
        SubgridError: a split holds NaN or infinity.
    """
    levels = emulator.grid.n_levels
    shape = emulator.network.shape
    parts = [part for part in (split, extra) if part is not None]
    features = [feature_statistics(emulator, part).summary() for part in parts]
    targets = [part.variable_statistics(emulator.variables.targets) for part in parts]
    emulator.inputs.fill(_channel_range(_widened(features), shape.profiles_in, levels))
    emulator.outputs.fill(_channel_range(_widened(targets), shape.profiles_out, levels))


def _widened(found: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """The first's mean and std with the range of all."""
    return {
        **found[0],
        "min": np.minimum.reduce([one["min"] for one in found]),
        "max": np.maximum.reduce([one["max"] for one in found]),
    }
