"""A weighted sum of emulators, standing where an emulator stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subgrid.base.errors import SubgridError, UsageError
from subgrid.emulator.base import ColumnEmulator, Counter
from subgrid.emulator.emulator import Emulator
from subgrid.emulator.flat import unflatten

#: How far the weights of a channel may sum to something else than 1.
ROUNDING = 1e-4


class BlendedEmulator(ColumnEmulator):
    """``sum_m w_m y_m`` of its members' raw outputs, each channel with weights that sum to 1 and may be negative.

    The members' bounds hold for each of them; the first member's constraints act on the sum too. Diagnostics are the
    mean of the members' shares beyond the training range, and what the constraints did to the sum.

    Args:
        members: emulators of one variable set, grid and time step, with the same bounds and constraints.
        weights: (member, n_out), channels in the flat order.

    Raises:
        UsageError: members that differ in what they read, predict or keep to.
        SubgridError: weights of another shape, not finite, or not summing to 1.
    """

    def __init__(self, members: Sequence[Emulator], weights: NDArray[np.float64]) -> None:
        _require_alike(members)
        first = members[0]
        super().__init__(first.variables, first.grid, first.levels, first.time_step, first.config)
        self.members = nn.ModuleList(members)
        shape = first.network.shape
        if weights.shape != (len(members), shape.flat_out):
            raise SubgridError(f"a blend needs weights of shape {(len(members), shape.flat_out)}, not {weights.shape}")
        if not np.isfinite(weights).all() or np.abs(weights.sum(axis=0) - 1.0).max() > ROUNDING:
            raise SubgridError("a blend needs finite weights that sum to 1 in every channel")
        profiles, scalars = unflatten(torch.from_numpy(weights.astype(np.float32)), shape.profiles_out, shape.levels)
        self.register_buffer("profile_weight", profiles.contiguous())
        self.register_buffer("scalar_weight", scalars.contiguous())

    @property
    def counters(self) -> list[Counter]:
        """What the diagnostics hold, one after the other."""
        return self._first.counters

    @property
    def answer(self) -> str:
        """What :meth:`forward` gives."""
        return f"weighted sum of {len(self.members)} emulators"

    @property
    def _members(self) -> list[Emulator]:
        return cast(list[Emulator], list(self.members))

    @property
    def _first(self) -> Emulator:
        return self._members[0]

    @property
    def watched(self) -> list[Counter]:
        """The features that the first member reads."""
        return self._first.watched

    def forward(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Raw SI columns -> raw SI tendencies and fluxes, memory, diagnostics."""
        p, s, memory, diagnostics, _ = self.monitored(profile_values, scalar_values, memory)
        return p, s, memory, diagnostics

    def monitored(
        self, profile_values: Tensor, scalar_values: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`forward`, and how far each input of the first member lies beyond its training range."""
        found = [member.monitored(profile_values, scalar_values, memory) for member in self._members]
        p = (torch.stack([one[0] for one in found]) * cast(Tensor, self.profile_weight)[:, None]).sum(0)
        s = (torch.stack([one[1] for one in found]) * cast(Tensor, self.scalar_weight)[:, None]).sum(0)
        counted = [torch.stack([one[3][:, :2] for one in found]).mean(0)]
        for constraint in self._first.constraints:
            p, s, count = constraint(profile_values, scalar_values, p, s)
            counted.append(count.reshape(count.shape[0], -1))
        return p, s, memory, torch.cat(counted, dim=1), found[0][4]


def _require_alike(members: Sequence[Emulator]) -> None:
    """Refuse members that cannot stand in one sum, naming what differs."""
    if len(members) < 2:
        raise UsageError("a blend needs at least two emulators")
    first = members[0]
    kept = ("water", "energy", "positive_water", "condense", "condense_above", "condense_hours")
    for k, member in enumerate(members[1:], start=2):
        compared = {
            "variables": (first.variables.name, member.variables.name),
            "inputs or targets": (first.variables, member.variables),
            "vertical grid": (first.grid, member.grid),
            "time step": (first.time_step, member.time_step),
            **{f"emulator.{name}": (getattr(first.config, name), getattr(member.config, name)) for name in kept},
        }
        differing = [name for name, (one, other) in compared.items() if one != other]
        if differing:
            raise UsageError(
                f"a blend needs emulators of one kind: number {k} has another {differing[0]} than number 1"
            )
