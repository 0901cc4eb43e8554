"""Floor 4: the one idea - an emulator maps physical columns to physical tendencies, everywhere the same object."""

from subgrid.emulator.base import ColumnEmulator
from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.emulator import Emulator, build_emulator
from subgrid.emulator.files import load, load_emulator, load_for_store, save_emulator
from subgrid.emulator.flat import FlatEmulator
from subgrid.emulator.published import PublishedEmulator

__all__ = [
    "ColumnEmulator",
    "Emulator",
    "EmulatorConfig",
    "FlatEmulator",
    "PublishedEmulator",
    "build_emulator",
    "load",
    "load_emulator",
    "load_for_store",
    "save_emulator",
]
