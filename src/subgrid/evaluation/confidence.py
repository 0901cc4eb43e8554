"""What a network says of its own errors, beside the tendencies: our own with a second head, and published ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subgrid.columns.variables import Variable, variable_set
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.published import PublishedEmulator


@dataclass(frozen=True)
class Confidence:
    """A confidence for each channel of ``variables``: the loss that is expected there, so that least is surest.

    Args:
        variables: what the network predicts, in its own set.
        width: number of channels.
        predict: raw SI columns (n, n_in) to (n, width), in the network's normalised units.
        unit: what raw errors are multiplied by to be in those units, (width,), 0 where a channel is constant; None
            where it lies in the network's file.
    """

    variables: tuple[Variable, ...]
    width: int
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    unit: NDArray[np.float64] | None = None


def confidence_of(emulator: ColumnEmulator) -> Confidence | None:
    """The confidence of an emulator of recipe ``confidence``, or of a published network that gives one for each target.

    Those are the targets of the set that its authors name. A blend has none: its members' losses are not its own.
    """
    if isinstance(emulator, Emulator) and emulator.config.confidence:
        return _own(emulator)
    if isinstance(emulator, PublishedEmulator):
        return _published(emulator)
    return None


def _own(emulator: Emulator) -> Confidence:
    n_in, levels = len(emulator.features.profile_names), emulator.levels
    outputs = emulator.outputs
    inverse = flatten(cast(Tensor, outputs.profile_inverse)[None], cast(Tensor, outputs.scalar_inverse)[None])[0]

    def predict(x: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            parts = emulator.confidence(*unflatten(torch.from_numpy(x), n_in, levels))
            return flatten(*parts).double().numpy()

    return Confidence(emulator.variables.targets, len(inverse), predict, inverse.double().numpy())


def _published(network: PublishedEmulator) -> Confidence | None:
    levels = network.levels
    n_profiles = sum(v.kind == "profile" for v in network.variables.inputs)
    width = sum(v.width(levels) for v in network.variables.inputs)

    def predict(x: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return network.confidence(*unflatten(torch.from_numpy(x), n_profiles, levels)).double().numpy()

    given = predict(np.zeros((1, width), np.float32)).shape[1]
    targets = variable_set(network.named).targets
    expected = sum(v.width(levels) for v in targets)
    return Confidence(targets, expected, predict) if given == expected else None
