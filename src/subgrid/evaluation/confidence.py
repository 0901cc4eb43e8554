"""What a network says of its own errors, for the zonal mean of it: profiles of a confidence beside the tendencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.columns.variables import Variable, variable_set
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.flat import unflatten
from subgrid.emulator.published import PublishedEmulator


@dataclass(frozen=True)
class Confidence:
    """A confidence for each channel of ``variables``.

    Args:
        variables: what the network predicts, in its own set.
        width: number of channels.
        predict: raw SI columns (n, n_in) to (n, width), in the network's normalised units.
    """

    variables: tuple[Variable, ...]
    width: int
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]]


def confidence_of(emulator: ColumnEmulator) -> Confidence | None:
    """The confidence of a published network that gives one for each target of the set that its authors name."""
    if not isinstance(emulator, PublishedEmulator):
        return None
    network, levels = emulator, emulator.levels
    n_profiles = sum(v.kind == "profile" for v in network.variables.inputs)
    width = sum(v.width(levels) for v in network.variables.inputs)

    def predict(x: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return network.confidence(*unflatten(torch.from_numpy(x), n_profiles, levels)).double().numpy()

    given = predict(np.zeros((1, width), np.float32)).shape[1]
    targets = variable_set(network.named).targets
    expected = sum(v.width(levels) for v in targets)
    return Confidence(targets, expected, predict) if given == expected else None
