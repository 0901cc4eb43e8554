"""Scores of the draws of a network that gives a distribution: CRPS, spread, and how they fit the error of the mean."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from subgrid.base.errors import UsageError
from subgrid.base.progress import Progress
from subgrid.columns.store import Split
from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import flatten, unflatten
from subgrid.evaluation.energy import air_mass, energy_factors
from subgrid.networks import ProbabilisticNetwork
from subgrid.scores.members import MemberScores
from subgrid.scores.pointwise import channel_weights

#: As many as the published CRPS of ClimSim is of.
MEMBERS = 32
#: Rows that are drawn at a time: all members of a whole block would fill the memory.
ROWS = 512
ABOUT = (
    "fair CRPS and spread of independent draws, weighted as R2 is; *_energy in W/m2, where every level of a profile "
    "counts alike (of equally many rows in each column it is the published CRPS); draws keep the bounds of the "
    "training range, constraints act on answers alone"
)


def gives_distribution(emulator: ColumnEmulator) -> bool:
    """Whether members can be drawn."""
    return isinstance(emulator, Emulator) and isinstance(emulator.network, ProbabilisticNetwork)


def members_of(emulator: ColumnEmulator, asked: int | None) -> int:
    """How many members are drawn: ``asked`` (None: :data:`MEMBERS`), or all of a network that has no more; 0: none.

    Raises:
        UsageError: members are asked of an emulator that gives one answer.
    """
    if not gives_distribution(emulator):
        if asked:
            raise UsageError(
                f"members={asked}: the emulator gives one answer, of which there are no members; architectures hsr, "
                "rpn and cvae give a distribution"
            )
        return 0
    network = cast(ProbabilisticNetwork, cast(Emulator, emulator).network)
    wanted = MEMBERS if asked is None else asked
    return min(wanted, network.distinct) if network.distinct else wanted


def member_scores(emulator: Emulator, split: Split, members: int, seed: int) -> dict[str, Any]:
    """CRPS, spread and error of the mean of ``members`` draws for each row of ``split``.

    Returns:
        ``members``, ``seed``, ``about`` and ``variables``: name to scores in the variable's unit (see
        :class:`subgrid.scores.members.EnsembleScores`), and ``crps_energy`` and ``spread_energy`` in W/m2, None for
        what has no energy.
    """
    variables, levels, grid = emulator.variables, emulator.levels, split.store.grid.vertical
    sizes = {v.name: v.width(levels) for v in variables.targets}
    native, energy = MemberScores(sizes), MemberScores(sizes)
    generator = torch.Generator().manual_seed(seed)
    with Progress("evaluate members", split.blocks, "blocks") as bar:
        for block in range(split.blocks):
            x = split.read_variables(variables.inputs, block)
            truth = split.read_variables(variables.targets, block).astype(np.float64)
            weight = split.read("weight", block).astype(np.float64)
            mass = air_mass(variables, x, grid)
            factor = energy_factors(variables, x, mass)
            layers = channel_weights(sizes, weight, mass)
            alike = np.broadcast_to(weight[:, None], truth.shape)
            for start in range(0, len(x), ROWS):
                rows = slice(start, start + ROWS)
                drawn = _drawn(emulator, x[rows], members, generator)
                native.update(drawn, truth[rows], layers[rows])
                energy.update(drawn * factor[rows], truth[rows] * factor[rows], alike[rows])
            bar.update(1)
    watts = energy.result()
    found = {}
    for variable in variables.targets:
        of_energy = watts[variable.name].to_dict() if variable.energy else {}
        found[variable.name] = {
            **native.result()[variable.name].to_dict(),
            **{f"{name}_energy": of_energy.get(name) for name in ("crps", "spread")},
        }
    return {"members": members, "seed": seed, "about": ABOUT, "variables": found}


def _drawn(emulator: Emulator, x: NDArray[np.float32], members: int, generator: torch.Generator) -> NDArray[np.float64]:
    """(member, n, channel), raw SI."""
    with torch.inference_mode():
        parts = unflatten(torch.from_numpy(x), len(emulator.features.profile_names), emulator.levels)
        p, s = emulator.sample(*parts, members, generator)
        flat = flatten(p.flatten(0, 1), s.flatten(0, 1))
        return flat.double().numpy().reshape(members, len(x), -1)


def member_lines(result: dict[str, Any]) -> list[str]:
    """What a terminal shows."""
    keys = ("crps", "spread", "rmse", "spread_error", "crps_energy")
    heads = ("CRPS", "spread", "RMSE", "spread/RMSE", "CRPS W/m2")
    title = f"draws: {result['members']}, seed {result['seed']}"
    found = [f"{title:32s}" + "".join(f"{head:>13s}" for head in heads)]
    for variable, entry in result["variables"].items():
        found.append(
            f"{variable:32s}" + "".join(f"{'--':>13s}" if entry[k] is None else f"{entry[k]:13.4g}" for k in keys)
        )
    return found
