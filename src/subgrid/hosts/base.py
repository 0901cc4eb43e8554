"""What every host offers, and the checks that an emulator fits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import UsageError, unknown_name
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet
from subgrid.emulator.emulator import Emulator

HOSTS = ("speedy",)
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

    def generate(self, path: Path, settings: Any) -> ColumnStore:
        """Make (or go on making) a column store."""
        ...

    def run(
        self,
        emulator: Emulator | None,
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


def left_out(variables: VariableSet) -> set[str]:
    """Processes that the targets of ``variables`` leave to the host (``x_tendency_<process>`` subtracted)."""
    names = (n for v in variables.targets for n, factor in v.sum_of if factor < 0)
    return {name.rpartition("_tendency_")[2] for name in names}


def check_fits(emulator: Emulator, host: Host, keep: str = "none") -> None:
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


def host(name: str, **settings: Any) -> Host:
    """The host called ``name`` (built lazily: jax is imported here).

    Raises:
        UsageError: no such host, or settings that it refuses.
    """
    if name not in HOSTS:
        raise unknown_name("host", name, HOSTS)
    from subgrid.hosts.speedy.host import Speedy

    return Speedy(**settings)
