"""What a constraint is: it names what it needs, maps raw outputs to raw outputs, and tells how much it did."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subgrid.base.errors import UsageError
from subgrid.columns.variables import VariableSet, profiles, scalars
from subgrid.emulator.base import Counter
from subgrid.emulator.features import InputFeatures


class Constraint(nn.Module):
    """Base: looks up the places of the variables that it needs.

    Attributes:
        does: what it does to the answers, in words for a model card.
        counter: name of what :meth:`forward` counts.
        units: of that.
        per_level: whether it is counted level by level.
        needs_inputs, needs_targets: variables without which it cannot work.
    """

    does = ""
    counter = ""
    units = "1"
    per_level = False
    needs_inputs: tuple[str, ...] = ()
    needs_targets: tuple[str, ...] = ()

    def __init__(self, features: InputFeatures, variables: VariableSet) -> None:
        super().__init__()
        self.features = features
        self.target_profiles = [v.quantity for v in profiles(variables.targets)]
        self.target_scalars = [v.quantity for v in scalars(variables.targets)]
        held = {v.quantity for v in (*variables.inputs, *variables.targets)}
        missing = [n for n in (*self.needs_inputs, *self.needs_targets) if n not in held]
        if missing:
            raise UsageError(
                f"constraint '{self.counter}' needs {', '.join(missing)}, which variable set '{variables.name}' "
                "lacks: switch it off or choose another set"
            )

    @property
    def counted(self) -> Counter:
        """What :meth:`forward` counts."""
        return Counter(self.counter, self.units, self.features.grid.n_levels if self.per_level else 0)

    def _replace_profile(self, out: Tensor, name: str, values: Tensor) -> Tensor:
        k = self.target_profiles.index(name)
        return torch.cat([out[:, :, :k], values.unsqueeze(2), out[:, :, k + 1 :]], dim=2)

    def _replace_scalar(self, out: Tensor, name: str, values: Tensor) -> Tensor:
        k = self.target_scalars.index(name)
        return torch.cat([out[:, :k], values.unsqueeze(1), out[:, k + 1 :]], dim=1)

    def _tendency(self, out: Tensor, name: str) -> Tensor:
        return out[:, :, self.target_profiles.index(name)]

    def _flux(self, out: Tensor, name: str) -> Tensor:
        return out[:, self.target_scalars.index(name)]
