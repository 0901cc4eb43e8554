"""Floor 4: the one idea - an emulator maps physical columns to physical tendencies, everywhere the same object."""

from subgrid.emulator.config import EmulatorConfig
from subgrid.emulator.emulator import Emulator, build_emulator
from subgrid.emulator.files import load_emulator, save_emulator
from subgrid.emulator.flat import FlatEmulator

__all__ = [
    "Emulator",
    "EmulatorConfig",
    "FlatEmulator",
    "build_emulator",
    "load_emulator",
    "save_emulator",
]
