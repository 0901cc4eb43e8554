"""Floor 7: an emulator inside a host model - the run, its stability, its climate against a matched control."""

from subgrid.coupling.run import CoupleConfig, CoupledRun, couple

__all__ = ["CoupleConfig", "CoupledRun", "couple"]
