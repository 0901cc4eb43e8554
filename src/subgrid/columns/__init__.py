"""Floor 1: labelled columns of raw physical values - variables, grid, store, loader. Never imports jax."""

from subgrid.columns.grid import ColumnGrid
from subgrid.columns.loader import ColumnLoader
from subgrid.columns.store import ColumnStore, Split, open_store
from subgrid.columns.variables import Variable, VariableSet, variable_set, variable_set_names
from subgrid.columns.writer import StoreWriter

__all__ = [
    "ColumnGrid",
    "ColumnLoader",
    "ColumnStore",
    "Split",
    "StoreWriter",
    "Variable",
    "VariableSet",
    "open_store",
    "variable_set",
    "variable_set_names",
]
