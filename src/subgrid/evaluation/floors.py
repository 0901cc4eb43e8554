"""Floors for any emulator: the training mean, and a ridge regression on the emulator's own inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.columns.store import Split
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.emulator.transforms import inverse_spread

Predictor = Callable[[NDArray[np.float32]], NDArray[np.float64]]
#: Penalty relative to the number of training columns, on standardised inputs.
PENALTY = 1e-5


def encoded(emulator: Emulator, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The emulator's normalised inputs of flat raw columns, (n, feature), with a column of ones."""
    with torch.inference_mode():
        parts = unflatten(torch.from_numpy(x), len(emulator.features.profile_names), emulator.grid.n_levels)
        values = flatten(*emulator.encode(*parts)).double().numpy()
    return np.concatenate([values, np.ones((len(x), 1))], axis=1)


def standardised(emulator: ColumnEmulator, train: Split) -> Predictor:
    """Flat raw columns in the training columns' own units, (n, channel), with a column of ones."""
    statistics = train.variable_statistics(emulator.variables.inputs)
    inverse = inverse_spread(statistics["mean"], statistics["std"])

    def encode(x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.concatenate([(x - statistics["mean"]) * inverse, np.ones((len(x), 1))], axis=1)

    return encode


def encoder(emulator: ColumnEmulator, train: Split) -> Predictor:
    """What ridge regression reads: the emulator's normalised inputs, or its variables where those lie in a file."""
    if isinstance(emulator, Emulator):
        return partial(encoded, emulator)
    return standardised(emulator, train)


def mean_predictor(emulator: ColumnEmulator, train: Split) -> Predictor:
    """Predicts each channel's training mean."""
    mean = train.variable_statistics(emulator.variables.targets)["mean"]
    return lambda x: np.broadcast_to(mean, (len(x), len(mean)))


def ridge_predictor(emulator: ColumnEmulator, train: Split) -> Predictor:
    """Ridge regression of standardised targets on the emulator's encoded inputs, from all training columns.

    Solves ``(X'X + n p I) B = X'Y`` (Hoerl and Kennard 1970), the intercept unpenalised, in float64.
    """
    statistics = train.variable_statistics(emulator.variables.targets)
    spread = np.where(statistics["std"] > 0, statistics["std"], 1.0)
    encode = encoder(emulator, train)
    gram: NDArray[np.float64] | None = None
    cross: NDArray[np.float64] | None = None
    for block in range(train.blocks):
        x = encode(train.read_variables(emulator.variables.inputs, block))
        y = (train.read_variables(emulator.variables.targets, block) - statistics["mean"]) / spread
        gram = x.T @ x if gram is None else gram + x.T @ x
        cross = x.T @ y if cross is None else cross + x.T @ y
    assert gram is not None and cross is not None
    penalty = np.full(len(gram), PENALTY * train.samples)
    penalty[-1] = 0.0
    # Constant inputs (zero columns) leave the matrix singular but for their penalty.
    coefficients = np.linalg.solve(gram + np.diag(penalty), cross)
    return lambda x: encode(x) @ coefficients * spread + statistics["mean"]
