"""Floor 7: the emulator as an artefact that other languages load."""

from subgrid.deployment.torchscript import export

__all__ = ["export"]
