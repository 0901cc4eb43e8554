"""The host `column` as the other rooms see it."""

from __future__ import annotations

from typing import Any

from subgrid.columns.variables import VariableSet, variable_set
from subgrid.hosts.column.model import MoistColumns
from subgrid.hosts.column.settings import ColumnConfig
from subgrid.hosts.small import TorchHost


class Columns(TorchHost):
    """Independent radiative-convective columns."""

    name = "column"

    def __init__(self, **settings: Any) -> None:
        super().__init__(ColumnConfig(**settings))

    def build(self, record_terms: bool = False) -> MoistColumns:
        """The columns."""
        return MoistColumns(self.config, record_terms)

    @property
    def variables(self) -> VariableSet:
        """Everything that it supplies and needs."""
        return variable_set("column")
