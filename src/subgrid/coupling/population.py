"""Many emulators inside copies of one small host, side by side: how long each lasts, and how far each drifts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from subgrid.base.errors import UsageError
from subgrid.base.progress import Progress
from subgrid.columns.variables import offsets
from subgrid.hosts.base import check_fits, host
from subgrid.hosts.small import Situation, TorchHost, TorchModel
from subgrid.training.population import Population

#: A member has left where its first variable's mean is this many of the control's own standard deviations (in space,
#: of daily means) from the control's.
DRIFTED = 3.0


def run_population(driven: TorchHost, population: Population, restart: Path, days: int) -> xr.Dataset:
    """Run every member in columns of its own beside a control with the same forcing.

    A member ends on the day on which a value leaves the host's bounds or the mean of the first variable drifts by more
    than :data:`DRIFTED` of the control's standard deviations; its columns then follow the control, so that the others
    go on.

    Args:
        driven: the host, of which the columns are copied for each member.
        population: emulators of its whole column physics.
        restart: a state of the host.
        days: length.

    Returns:
        ``lasted`` (member), days; ``ended`` (member), whether it left; and of the first variable ``bias`` and ``rmse``
        (member, time), daily means against the control, NaN after the end.

    Raises:
        UsageError: the emulators do not fit, or replace only a part of the column physics.
    """
    first = population.members[0]
    if check_fits(first, driven) != frozenset(driven.processes):
        raise UsageError("a population must stand for the whole column physics of its host")
    many = host(driven.name, **{**driven.parameters, "copies": len(population)})
    assert isinstance(many, TorchHost)
    crowd, single = many.model, driven.model
    carry = driven.start(restart)
    state, alone = {k: v.repeat(1, len(population)) for k, v in carry.state.items()}, carry.state
    alive, lasted = np.ones(len(population), bool), np.full(len(population), days)
    name = next(iter(single.bounds))
    tables = {key: np.full((len(population), days), np.nan) for key in ("bias", "rmse")}
    step = int(carry.step)
    with torch.inference_mode(), Progress("population", days, "days") as bar:
        for day in range(days):
            sums = torch.zeros_like(state[name]), torch.zeros_like(alone[name])
            for _ in range(driven.config.steps_per_day):
                dead = _beyond(crowd, state, len(population)) & alive
                lasted[dead], alive = day, alive & ~dead
                state = _reset(state, alone, alive)
                at = Situation(crowd.inputs(state, step), state, step)
                targets = _answers(population, at, crowd.grid.levels)
                own = Situation(single.inputs(alone, step), alone, step)
                state, alone = (
                    crowd.advance(state, at, targets, np.random.default_rng((crowd.config.seed, step))),
                    single.advance(
                        alone, own, single.own_physics(own).targets, np.random.default_rng((single.config.seed, step))
                    ),
                )
                sums = sums[0] + state[name], sums[1] + alone[name]
                step += 1
            bias, rmse, spread = _against(sums, driven.config.steps_per_day, len(population))
            drifted = alive & ~(np.abs(bias) < DRIFTED * spread)
            lasted[drifted], alive = day, alive & ~drifted
            tables["bias"][alive, day], tables["rmse"][alive, day] = bias[alive], rmse[alive]
            bar.update(1, f"{alive.sum()} of {len(population)} left")
    return xr.Dataset(
        {
            "lasted": ("member", lasted),
            "ended": ("member", ~alive),
            **{key: (("member", "time"), table) for key, table in tables.items()},
        },
        attrs={"days": days, "variable": name},
    )


def _beyond(model: TorchModel, state: dict[str, torch.Tensor], members: int) -> np.ndarray:
    """Which members have a value beyond the bounds, or none at all."""
    found = np.zeros(members, bool)
    for name, (low, high) in model.bounds.items():
        values = state[name].reshape(state[name].shape[0], members, -1)
        found |= ~((values >= low) & (values <= high)).all(2).all(0).numpy()
    return found


def _reset(
    state: dict[str, torch.Tensor], alone: dict[str, torch.Tensor], alive: np.ndarray
) -> dict[str, torch.Tensor]:
    """The states of members that have ended, replaced by the control's."""
    if alive.all():
        return state
    keep = torch.from_numpy(alive)
    found = {}
    for name, values in state.items():
        parts = values.reshape(*values.shape[:-1], len(alive), -1)
        control = alone[name].reshape(*values.shape[:-1], 1, -1)
        found[name] = torch.where(keep[:, None], parts, control).reshape(values.shape)
    return found


def _answers(population: Population, at: Situation, levels: int) -> dict[str, torch.Tensor]:
    """Every member's answer on its own columns, by target."""
    first = population.members[0]
    x = torch.cat([torch.atleast_2d(at.columns[v.name]) for v in first.variables.inputs]).T.float()
    y = population(x.reshape(len(population), -1, x.shape[1])).flatten(0, 1).T.double()
    place = offsets(first.variables.targets, levels)
    kinds: dict[str, Any] = {v.name: v.kind for v in first.variables.targets}
    return {n: y[place[n]] if kind == "profile" else y[place[n].start] for n, kind in kinds.items()}


def _against(sums: tuple[torch.Tensor, torch.Tensor], steps: int, members: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Bias and RMSE of each member's daily mean, and the control's standard deviation over columns."""
    crowd = (sums[0] / steps).reshape(sums[0].shape[0], members, -1)
    alone = (sums[1] / steps)[:, None]
    apart = crowd - alone
    spread = float((alone - alone.mean(2, keepdim=True)).square().mean().sqrt())
    return apart.mean((0, 2)).numpy(), apart.square().mean((0, 2)).sqrt().numpy(), spread
