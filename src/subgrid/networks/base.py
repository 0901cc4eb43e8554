"""What every network is: the sizes of its tensors, and the class that all architectures extend."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError

MINIMUM_LEVELS = 4
#: Wider layers than this are taken for a mistake, before memory is asked for them.
MOST_CHANNELS = 65536


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a network's inputs and outputs for one column.

    Attributes:
        levels: vertical levels, 0 = top of the column; at least 4.
        profiles_in: input channels given on every level.
        scalars_in: input channels given once per column.
        profiles_out: output channels on every level.
        scalars_out: output channels given once per column.
        heads: sets of outputs, one after the other in each kind (2: a prediction and, say, its confidence).

    Raises:
        UsageError: a size is not a whole number, is negative, or leaves nothing to read or to predict.
    """

    levels: int
    profiles_in: int
    scalars_in: int
    profiles_out: int
    scalars_out: int
    heads: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"network shape: {field.name} must be a whole number >= 0, got {value!r}")
        if self.levels < MINIMUM_LEVELS:
            raise UsageError(f"network shape: levels must be at least {MINIMUM_LEVELS}, got {self.levels}")
        if self.heads < 1:
            raise UsageError(f"network shape: heads must be at least 1, got {self.heads}")
        if self.profiles_in + self.scalars_in == 0:
            raise UsageError("network shape: needs at least one input (profiles_in or scalars_in)")
        if self.profiles_out + self.scalars_out == 0:
            raise UsageError("network shape: needs at least one output (profiles_out or scalars_out)")

    @property
    def flat_in(self) -> int:
        """Numbers that enter per column: ``levels * profiles_in + scalars_in``."""
        return self.levels * self.profiles_in + self.scalars_in

    @property
    def flat_out(self) -> int:
        """Numbers that leave per column and head: ``levels * profiles_out + scalars_out``."""
        return self.levels * self.profiles_out + self.scalars_out

    def zeros(
        self, columns: int, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """All-zero inputs ``(columns, level, profiles_in)`` and ``(columns, scalars_in)``."""
        profiles = torch.zeros(columns, self.levels, self.profiles_in, dtype=dtype, device=device)
        return profiles, torch.zeros(columns, self.scalars_in, dtype=dtype, device=device)


def plain(config: Any) -> dict[str, Any]:
    """The fields of a config dataclass as a dict that JSON gives back unchanged (tuples become lists)."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


class Network(nn.Module):
    """A map from the normalised inputs of a column to its normalised outputs; columns do not interact.

    A subclass implements
    ``forward(profiles (n, level, profiles_in), scalars (n, scalars_in))
    -> (profiles (n, level, heads * profiles_out), scalars (n, heads * scalars_out))``
    in operations that torch can script, trace and export. Inputs have the dtype of the weights and outputs
    keep it. Nothing here has units: the emulator normalises before and restores units after.

    Attributes:
        architecture: registered name, filled in by :func:`subgrid.networks.build`.
        shape: the :class:`NetworkShape` it was made for.
        hyperparameters: resolved settings as a JSON-able dict;
            ``build(architecture, shape, **hyperparameters)`` makes the same module again.
    """

    __jit_ignored_attributes__ = ("architecture", "shape", "hyperparameters")

    def __init__(self, shape: NetworkShape, config: Any) -> None:
        super().__init__()
        self.architecture = ""
        self.shape = shape
        self.hyperparameters = plain(config)
