"""Cloud liquid and ice of an emulator of their sum: rebuilt by the ramp, beside the true ones and rebuilt truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from subgrid.columns.store import Split
from subgrid.columns.variables import Variable, VariableSet, catalogue, quantities
from subgrid.physics.moisture import partitioned_tendencies

Floats = NDArray[np.float64]
#: Names of the two tendencies, and of the same when the truth is rebuilt by the ramp too.
PHASES = ("ptend_q0002", "ptend_q0003")
RAMP = "_ramp"
_STATE = ("state_q0002", "state_q0003")


class CloudPhases:
    """What is scored beside the targets of an emulator of total cloud water.

    Against the true tendencies the whole error counts, that of the ramp included; against truth that went through the
    same ramp (``ptend_q0002_ramp``) only that of the network, as in the published evaluation.

    Args:
        variables: the emulator's; it predicts the tendencies of temperature and cloud water, not of its phases.
        split: holds the true phases before and after the step.

    Raises:
        UsageError: the store lacks them.
    """

    def __init__(self, variables: VariableSet, split: Split) -> None:
        held = catalogue("climsim").variables
        self.split, self.levels = split, split.store.grid.levels
        self.stored = tuple(held[name] for name in (*_STATE, *PHASES))
        split.selection(self.stored)
        self.inputs, self.targets = (quantities(v, self.levels) for v in (variables.inputs, variables.targets))
        self.time_step = split.store.spec.time_step
        true = [held[name] for name in PHASES]
        rebuilt = [replace(v, name=v.name + RAMP, long_name=f"{v.long_name}, truth by the ramp") for v in true]
        self.variables: tuple[Variable, ...] = (*true, *rebuilt)

    def rows(self, block: int, x: NDArray[np.float32], prediction: Floats, truth: Floats) -> tuple[Floats, Floats]:
        """Prediction ([members,] n, 4 level) and truth (n, 4 level) of :attr:`variables`, kg/kg/s.

        Args:
            block: of the split.
            x: raw inputs of its rows.
            prediction: ([members,] n, channel) of the emulator's targets, raw SI.
            truth: (n, channel) of the same.
        """
        levels = self.levels
        held = self.split.read_variables(self.stored, block).astype(np.float64)
        liquid, ice, true = held[:, :levels], held[:, levels : 2 * levels], held[:, 2 * levels :]
        t = x[:, self.inputs["temperature"]].astype(np.float64)

        def rebuilt(values: Floats) -> list[Floats]:
            heating, moistening = (
                values[..., self.targets[f"{name}_tendency"]] for name in ("temperature", "cloud_water")
            )
            return list(partitioned_tendencies(t, liquid, ice, heating, moistening, self.time_step))

        predicted = rebuilt(prediction)
        return np.concatenate(predicted * 2, axis=-1), np.concatenate([true, *rebuilt(truth)], axis=1)


def cloud_phases(variables: VariableSet, split: Split) -> CloudPhases | None:
    """For an emulator of total cloud water, if the store holds the phases; None otherwise."""
    predicted = {v.quantity for v in variables.targets}
    held = {v.name for group in split.store.spec.arrays.values() for v in group}
    wanted = {"temperature_tendency", "cloud_water_tendency"} <= predicted
    return CloudPhases(variables, split) if wanted and held.issuperset((*_STATE, *PHASES)) else None
