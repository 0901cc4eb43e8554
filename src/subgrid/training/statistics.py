"""Transforms fitted on the training split: float64 statistics of features and targets, one pass, block by block."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.columns.normalisation import read_normalisation, read_representations
from subgrid.columns.statistics import ChannelStatistics
from subgrid.columns.store import Split
from subgrid.columns.variables import profiles
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.official import OfficialInputs, input_statistics, output_statistics
from subgrid.emulator.representations import MultiRepresentation, repeated_features
from subgrid.emulator.transforms import ChannelRange


def split_channels(
    values: NDArray[np.float64], n_profiles: int, levels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flat (channel,) -> (level, P) and (S,)."""
    cut = n_profiles * levels
    return values[:cut].reshape(n_profiles, levels).T.copy(), values[cut:].copy()


def feature_statistics(emulator: Emulator, split: Split) -> ChannelStatistics:
    """Statistics of the emulator's features, as its transform takes them, over a split; merged in block order."""
    n_profiles = len(emulator.features.profile_names)
    total: ChannelStatistics | None = None
    for block in range(split.blocks):
        x = torch.from_numpy(split.read_variables(emulator.variables.inputs, block))
        with torch.inference_mode():
            p, s = emulator.features(*unflatten(x, n_profiles, emulator.grid.n_levels))
            features = flatten(emulator.inputs.prepare(p), s)
        found = ChannelStatistics.of(features.numpy())
        total = found if total is None else total.merge(found)
    return total or ChannelStatistics.empty(0)


def _channel_range(fields: dict[str, NDArray[np.float64]], n_profiles: int, levels: int) -> ChannelRange:
    parts = {name: split_channels(values, n_profiles, levels) for name, values in fields.items()}
    return ChannelRange(mean=parts["mean"], std=parts["std"], low=parts["min"], high=parts["max"])


def fit_transforms(emulator: Emulator, split: Split, *extra: Split) -> None:
    """Fill the emulator's transforms: mean and spread of ``split``, range of ``split`` and ``extra`` together.

    Perturbed columns and those of a second store widen the range that is known, but the climate of the first alone sets
    the units of the loss. With
    ``normalization=official`` the published files give mean and spread, and the splits the range alone. Masked outputs
    are made constant.

    Raises:
        SubgridError: a split holds NaN or infinity, or a published file is absent or does not fit.
    """
    parts = [split, *extra]
    if isinstance(emulator.inputs, OfficialInputs):
        _fit_official(emulator, emulator.inputs, parts)
    elif emulator.config.normalization == "official":
        _fit_representations(emulator, parts)
    else:
        _fit_computed(emulator, parts)
    emulator.mask_outputs()


def _fit_computed(emulator: Emulator, parts: list[Split]) -> None:
    levels, shape = emulator.grid.n_levels, emulator.network.shape
    features = [feature_statistics(emulator, part).summary() for part in parts]
    targets = [part.variable_statistics(emulator.variables.targets) for part in parts]
    found = _channel_range(_widened(features), len(emulator.features.names), levels)
    emulator.inputs.fill(found)
    if isinstance(emulator.representations, MultiRepresentation):
        emulator.representations.fill(found, emulator.config.paper_compatible)
    emulator.outputs.fill(_channel_range(_widened(targets), shape.profiles_out, levels))


def _fit_official(emulator: Emulator, inputs: OfficialInputs, parts: list[Split]) -> None:
    config, variables, shape = emulator.config, emulator.variables, emulator.network.shape
    levels = emulator.grid.n_levels
    published = read_normalisation(
        config.normalization_folder,
        variables,
        levels,
        config.normalization_inputs,
        config.normalization_outputs,
        config.normalization_rates,
    )
    found = _widened([part.variable_statistics(variables.inputs) for part in parts])
    seen = _channel_range(found, shape.profiles_in, levels)
    inputs.fill_published(published, variables, config.prune_inputs, seen.low, seen.high)
    _fit_outputs(emulator, published.scale, parts)
    emulator.metadata["normalization"] = list(published.files)


def _fit_outputs(emulator: Emulator, scale: Mapping[str, NDArray[np.float64]], parts: list[Split]) -> None:
    variables, levels = emulator.variables, emulator.grid.n_levels
    found = _widened([part.variable_statistics(variables.targets) for part in parts])
    seen = _channel_range(found, emulator.network.shape.profiles_out, levels)
    prune = emulator.config.prune_outputs
    emulator.outputs.fill(*output_statistics(scale, variables, prune, seen.low, seen.high))


def _fit_representations(emulator: Emulator, parts: list[Split]) -> None:
    """Three representations with the published means, spreads and, if asked for, offsets."""
    config, variables, levels = emulator.config, emulator.variables, emulator.grid.n_levels
    assert isinstance(emulator.representations, MultiRepresentation)
    own = profiles(variables.inputs)
    repeated = [own[k].name for k in repeated_features(emulator.features.names)]
    published = read_representations(
        config.normalization_folder, variables, levels, repeated, config.normalization_outputs
    )
    statistics = [part.variable_statistics(variables.inputs) for part in parts]
    seen = _channel_range(_widened(statistics), len(own), levels)
    emulator.inputs.fill(*input_statistics(published.mean, published.span, variables, seen.low, seen.high))
    held = emulator.inputs
    fitted = ChannelRange(
        *(
            (held.get_buffer(f"profile_{name}").double().numpy(), held.get_buffer(f"scalar_{name}").double().numpy())
            for name in ("mean", "std", "low", "high")
        )
    )
    pooled, divisor, offset = (
        np.stack([found[name] for name in repeated], axis=1)
        for found in (published.pooled_mean, published.pooled_span, published.offset)
    )
    emulator.representations.fill_published(fitted, (pooled, divisor), offset if config.paper_compatible else None)
    _fit_outputs(emulator, published.scale, parts)
    emulator.metadata["normalization"] = list(published.files)


def _widened(found: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """The first's mean and std with the range of all."""
    return {
        **found[0],
        "min": np.minimum.reduce([one["min"] for one in found]),
        "max": np.maximum.reduce([one["max"] for one in found]),
    }
