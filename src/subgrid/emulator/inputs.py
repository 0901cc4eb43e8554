"""The input transform that an emulator's settings ask for."""

from __future__ import annotations

from subgrid.base.errors import UsageError
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.official import OfficialInputs
from subgrid.emulator.pooled import PooledInputs
from subgrid.emulator.transforms import Standardise


def build_inputs(config: EmulatorConfig, levels: int, names: list[str], scalars: int) -> Standardise:
    """The unfitted transform of the profile features ``names`` and of so many scalars.

    Raises:
        UsageError: published statistics are asked for features that they do not know.
    """
    if config.normalization == "pooled":
        return PooledInputs(levels, names, scalars)
    if config.normalization != "official":
        return Standardise(levels, len(names), scalars)
    if config.inputs != "raw":
        raise UsageError(
            f"emulator.normalization=official knows the variables alone, not emulator.inputs={config.inputs}: add "
            "emulator.inputs=raw"
        )
    if config.representation == "multi":  # published as means and spreads of the raw inputs, cloud too
        return Standardise(levels, len(names), scalars)
    return OfficialInputs(levels, len(names), scalars)
