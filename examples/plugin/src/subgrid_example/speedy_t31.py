"""The host `speedy_t31`: subgrid's host with other defaults; another model implements `subgrid.hosts.base.Host`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from subgrid.hosts.base import Host, register
from subgrid.hosts.speedy.settings import SpeedyConfig


@dataclass(frozen=True)
class T31Config(SpeedyConfig):
    """SPEEDY at T31, 96 x 48 columns."""

    truncation: int = 31


@register("speedy_t31", T31Config)
def speedy_t31(**settings: Any) -> Host:
    """The host; jax is imported only here."""
    from subgrid.hosts.speedy.host import Speedy

    host = Speedy(**asdict(T31Config(**settings)))
    host.name = "speedy_t31"
    return host
