"""The host `lorenz96` as the other rooms see it."""

from __future__ import annotations

from typing import Any

from subgrid.columns.variables import VariableSet, variable_set
from subgrid.hosts.lorenz96.model import Rings
from subgrid.hosts.lorenz96.settings import Lorenz96Config
from subgrid.hosts.small import TorchHost


class Lorenz96(TorchHost):
    """Independent rings of slow variables."""

    name = "lorenz96"

    def __init__(self, **settings: Any) -> None:
        super().__init__(Lorenz96Config(**settings))

    def build(self, record_terms: bool = False) -> Rings:
        """The rings."""
        return Rings(self.config, record_terms)

    @property
    def variables(self) -> VariableSet:
        """Everything that it supplies and needs."""
        return variable_set("lorenz96")
