"""The competition's score of an emulator on a split: all 368 outputs, whatever the emulator predicts directly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.base.progress import Progress
from subgrid.columns.kaggle.layout import TARGETS, zero_weight
from subgrid.columns.store import ColumnStore, Split
from subgrid.columns.variables import Variable, catalogue, offsets
from subgrid.emulator.base import ColumnEmulator
from subgrid.evaluation.cloud_phases import PHASES
from subgrid.evaluation.floors import Predictor
from subgrid.evaluation.predict import emulator_predictor
from subgrid.physics.moisture import partitioned_tendencies
from subgrid.scores.kaggle import PooledR2, competition_scores

#: What the outputs that an emulator of total cloud water has not are rebuilt from.
REBUILT_FROM = ("state_t", "state_q0002", "state_q0003")

Values = dict[str, NDArray[Any]]


def missing_targets(emulator: ColumnEmulator) -> list[str]:
    """The competition's outputs that ``emulator`` neither predicts nor allows to be rebuilt."""
    names = {v.name for v in emulator.variables.targets}
    rebuilt = set(PHASES) if {"ptend_qn", "ptend_t"} <= names else set()
    return [name for name in TARGETS if name not in names | rebuilt]


def require_targets(emulator: ColumnEmulator) -> None:
    """Raise :class:`UsageError` naming the outputs of the competition that ``emulator`` cannot give."""
    missing = missing_targets(emulator)
    if missing:
        raise UsageError(
            f"the emulator ({emulator.variables.name}) does not predict {', '.join(missing)}: the competition needs "
            "one trained with variables=kaggle, v2, v2_rh or v2_rh_mc"
        )


def rebuilds(emulator: ColumnEmulator) -> bool:
    """Whether cloud liquid and ice tendencies come from that of total cloud water."""
    return any(name not in {v.name for v in emulator.variables.targets} for name in PHASES)


def all_targets(
    emulator: ColumnEmulator, predict: Predictor, x: NDArray[np.float32], state: Mapping[str, NDArray[Any]]
) -> NDArray[np.float64]:
    """The 368 outputs, in the competition's order, (n, channel) float64, raw SI.

    Args:
        emulator: whose variables are asked for.
        predict: its outputs of flat raw columns.
        x: its flat raw inputs, (n, n_in).
        state: ``state_t``, ``state_q0002`` and ``state_q0003``, (n, level), where :func:`rebuilds`; they then give the
            split of cloud water by the ramp on the temperature after the step.
    """
    y = predict(np.ascontiguousarray(x))
    place = offsets(emulator.variables.targets, emulator.levels)
    found: Values = {name: y[:, part] for name, part in place.items()}
    if rebuilds(emulator):
        t, liquid, ice = (state[name].astype(np.float64) for name in REBUILT_FROM)
        found[PHASES[0]], found[PHASES[1]] = partitioned_tendencies(
            t, liquid, ice, found["ptend_t"], found["ptend_qn"], emulator.time_step
        )
    return np.concatenate([found[name] for name in TARGETS], axis=1)


def kaggle_metrics(emulator: ColumnEmulator, store: ColumnStore, split: Split, out: Path) -> dict[str, Any]:
    """``r2_308``, ``r2_368`` and the R2 of each output of ``emulator`` on ``split``.

    The truth is that of the competition, cloud liquid and ice each for itself, also where they are rebuilt from their
    sum. Outputs whose weight is zero are those of the present sample submission (see :func:`zero_weight`).

    Raises:
        UsageError: the emulator or the store lacks outputs of the competition.
    """
    del out
    require_targets(emulator)
    levels = store.grid.levels
    place = offsets(TARGETS.values(), levels)
    held = _state_variables() if rebuilds(emulator) else ()
    targets = tuple(TARGETS.values())
    split.selection((*targets, *held))
    pooled = PooledR2(max(part.stop for part in place.values()))
    predict = emulator_predictor(emulator)
    with Progress("evaluate kaggle", split.blocks, "blocks") as bar:
        for block in range(split.blocks):
            x = split.read_variables(emulator.variables.inputs, block)
            state = {v.name: split.read_variables((v,), block) for v in held}
            truth = split.read_variables(targets, block).astype(np.float64)
            pooled.update(all_targets(emulator, predict, x, state), truth)
            bar.update(1)
    return described(pooled.result(), ~zero_weight(levels), levels)


def described(r2: NDArray[np.float64], weight: NDArray[Any], levels: int) -> dict[str, Any]:
    """The two means and the R2 of each output by variable; None where one is not finite, which JSON cannot hold."""
    by_name = {
        name: [float(v) if np.isfinite(v) else None for v in r2[part]]
        for name, part in offsets(TARGETS.values(), levels).items()
    }
    means = competition_scores(r2, weight.astype(np.float64))
    return {**{name: v if np.isfinite(v) else None for name, v in means.items()}, "r2": by_name}


def _state_variables() -> tuple[Variable, ...]:
    held = catalogue("climsim").variables
    return tuple(held[name] for name in REBUILT_FROM)
