"""What every host offers, and the checks that an emulator fits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.plugins import import_offer, offered
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet
from subgrid.emulator.base import ColumnEmulator
from subgrid.hosts.speedy.settings import SpeedyConfig

ENTRY_POINT_GROUP = "subgrid.hosts"
#: How an emulator reaches a jax host.
BRIDGES = ("auto", "callback", "jax")
#: Parts of the host's own physics that can be kept beside an emulator.
KEEPS = ("none", "surface", "diffusion")


class Host(Protocol):
    """A model that supplies columns and can be driven by an emulator.

    Attributes:
        grid: its columns.
        variables: the largest variable set that it supplies.
        time_step: s.
        parameters: its settings, JSON-able.
    """

    name: str

    @property
    def grid(self) -> ColumnGrid: ...

    @property
    def variables(self) -> VariableSet: ...

    @property
    def time_step(self) -> float: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...

    def generate(self, path: Path | str, settings: Any) -> ColumnStore:
        """Make (or go on making) a column store."""
        ...

    def run(
        self,
        emulator: ColumnEmulator | None,
        restart: Path,
        days: int,
        folder: Path,
        bridge: str = "auto",
        keep: str = "none",
        on_day: Callable[[int, Mapping[str, NDArray[Any]]], str | None] | None = None,
        title: str = "couple",
    ) -> Any:
        """Integrate ``days`` from ``restart`` with the emulator (None: own physics), daily means to ``folder``."""
        ...


def host_of(store: ColumnStore) -> Host:
    """The host that made ``store``, set as it was then.

    Raises:
        SubgridError: the store does not say how.
    """
    settings = store.spec.provenance.get("host")
    if not isinstance(settings, dict):
        raise SubgridError(
            f"{store.path} does not say how its host was set: make the store with `subgrid data generate`"
        )
    return host(store.spec.host, **settings)


def left_out(variables: VariableSet) -> set[str]:
    """Processes that the targets of ``variables`` leave to the host (``x_tendency_<process>`` subtracted)."""
    names = (n for v in variables.targets for n, factor in v.sum_of if factor < 0)
    return {name.rpartition("_tendency_")[2] for name in names}


def check_fits(emulator: ColumnEmulator, host: Host, keep: str = "none") -> None:
    """Refuse, before anything is compiled, an emulator that does not fit ``host`` with ``keep``.

    Raises:
        UsageError: other levels, another time step, variables that the host does not supply, or a process that both or
            neither of the two compute; with what would fit.
    """
    ours = np.add(host.grid.vertical.hyai, host.grid.vertical.hybi)
    theirs = np.add(emulator.grid.hyai, emulator.grid.hybi)
    if emulator.grid.n_levels != host.grid.levels:
        raise UsageError(
            f"the emulator has {emulator.grid.n_levels} levels, host '{host.name}' has {host.grid.levels}: train on a "
            "store of this host"
        )
    if not np.allclose(ours, theirs, atol=1e-6):
        raise UsageError(
            f"the emulator's level boundaries {theirs.round(3).tolist()} differ from those of host '{host.name}' "
            f"{ours.round(3).tolist()}"
        )
    if abs(emulator.time_step - host.time_step) > 1e-6:
        raise UsageError(
            f"the emulator's tendencies are for a step of {emulator.time_step:g} s, host '{host.name}' steps by "
            f"{host.time_step:g} s: train on a store made with this step"
        )
    supplied = {v.name for v in host.variables.inputs}
    lacking = [v.name for v in emulator.variables.inputs if v.name not in supplied]
    needed = {v.name for v in host.variables.targets}
    missing = sorted(needed - {v.name for v in emulator.variables.targets})
    if lacking or missing:
        parts = [f"reads {', '.join(lacking)}, which the host does not supply"] if lacking else []
        parts += [f"does not predict {', '.join(missing)}"] if missing else []
        raise UsageError(
            f"variable set '{emulator.variables.name}' does not fit host '{host.name}': it {' and '.join(parts)}; "
            "sets that fit: speedy, speedy_expanded"
        )
    wanted = {keep} - {"none", "surface"}  # surface fluxes are exchanged, not left out
    if left_out(emulator.variables) != wanted:
        processes = ", ".join(sorted(left_out(emulator.variables))) or "nothing"
        raise UsageError(
            f"variable set '{emulator.variables.name}' leaves {processes} to the host, couple.keep={keep} keeps "
            f"{', '.join(wanted) or 'nothing of that'}: use couple.keep=diffusion with variables=speedy_keep_diffusion "
            "and with no other set"
        )


Builder = TypeVar("Builder", bound=Callable[..., Host])


@dataclass(frozen=True)
class _Offer:
    """The dataclass of a host's settings, and what builds the host from them."""

    settings: type
    build: Callable[..., Host]


_HOSTS: dict[str, _Offer] = {}


def register(name: str, settings: type) -> Callable[[Builder], Builder]:
    """Decorator of a function ``(**settings) -> Host``: make a host known as ``name``.

    The function's module is imported to check settings: it should import the model itself only inside.

    Args:
        name: what ``host=name`` chooses.
        settings: dataclass of the host's settings, each with a default.

    Raises:
        SubgridError: the name is taken by another function.
    """

    def add(builder: Builder) -> Builder:
        known = _HOSTS.get(name)
        if known is not None and known.build.__module__ != builder.__module__:  # a reload may register again
            raise SubgridError(f"host '{name}' is registered twice; give one of them another name")
        _HOSTS[name] = _Offer(settings, builder)
        return builder

    return add


def host_names() -> list[str]:
    """All hosts: those here and those that installed packages offer."""
    return sorted({*_HOSTS, *offered(ENTRY_POINT_GROUP)})


def host_settings(name: str) -> type:
    """The dataclass of the settings of host ``name``; raises as :func:`host`."""
    return _find(name).settings


def host(name: str, **settings: Any) -> Host:
    """The host called ``name`` (built lazily: jax is imported here).

    Raises:
        UsageError: no such host, or settings that it refuses.
        SubgridError: the package that offers it cannot be imported.
    """
    offer = _find(name)
    known = [field.name for field in fields(offer.settings)]
    for key in settings:
        if key not in known:
            raise unknown_name(f"setting of host '{name}'", key, known)
    return offer.build(**settings)


def _find(name: str) -> _Offer:
    if name not in _HOSTS:
        point = offered(ENTRY_POINT_GROUP).get(name)
        if point is None:
            raise unknown_name("host", name, host_names())
        import_offer("host", point, lambda: name in _HOSTS)
    return _HOSTS[name]


@register("speedy", SpeedyConfig)
def _speedy(**settings: Any) -> Host:
    from subgrid.hosts.speedy.host import Speedy

    return Speedy(**settings)
