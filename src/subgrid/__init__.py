"""subgrid: learn the physics that a climate model cannot resolve, prove it inside a climate model, ship it to Fortran.

import subgrid as sg
emulator = sg.load("runs/mlp")
tendencies = sg.predict(emulator, columns)   # labelled xarray in and out
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subgrid.columns import open_store
    from subgrid.coupling import CoupleConfig, couple
    from subgrid.deployment import ExportConfig, export, verify
    from subgrid.emulator import Emulator, EmulatorConfig, load
    from subgrid.evaluation import EvaluateConfig, evaluate, predict
    from subgrid.hosts.base import host
    from subgrid.training import TrainConfig, fit

_PLACES = {
    "open_store": "subgrid.columns",
    "Emulator": "subgrid.emulator",
    "EmulatorConfig": "subgrid.emulator",
    "load": "subgrid.emulator",
    "TrainConfig": "subgrid.training",
    "fit": "subgrid.training",
    "EvaluateConfig": "subgrid.evaluation",
    "evaluate": "subgrid.evaluation",
    "predict": "subgrid.evaluation",
    "CoupleConfig": "subgrid.coupling",
    "couple": "subgrid.coupling",
    "ExportConfig": "subgrid.deployment",
    "export": "subgrid.deployment",
    "verify": "subgrid.deployment",
    "host": "subgrid.hosts.base",
}
__all__ = [
    "CoupleConfig",
    "Emulator",
    "EmulatorConfig",
    "EvaluateConfig",
    "ExportConfig",
    "TrainConfig",
    "couple",
    "evaluate",
    "export",
    "fit",
    "host",
    "load",
    "open_store",
    "predict",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import subgrid`` costs nothing."""
    if name == "__version__":  # kept in pyproject.toml alone
        from importlib.metadata import version

        return version("subgrid")
    if name not in _PLACES:
        raise AttributeError(f"module 'subgrid' has no attribute '{name}'")
    return getattr(import_module(_PLACES[name]), name)
