"""Floor 7: the emulator as an artefact that other languages load."""

from subgrid.deployment.bundle import ExportConfig, export
from subgrid.deployment.verification import verify

__all__ = ["ExportConfig", "export", "verify"]
