"""What every host offers, and the checks that an emulator fits it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, unknown_name
from subgrid.base.plugins import import_offer, offered
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.store import ColumnStore
from subgrid.columns.variables import VariableSet, variable_set, variable_set_names
from subgrid.emulator.base import ColumnEmulator
from subgrid.hosts.column.settings import ColumnConfig
from subgrid.hosts.driving import Drive
from subgrid.hosts.lorenz96.settings import Lorenz96Config
from subgrid.hosts.speedy.settings import SpeedyConfig

ENTRY_POINT_GROUP = "subgrid.hosts"
#: What ``couple.replace`` says without naming processes: those that the emulator was trained for, or the whole physics.
AS_TRAINED, ALL = "auto", "all"


@dataclass
class Integration:
    """What an integration left behind.

    ``unstable`` is None, or names the first variable, level, place and time out of bounds. ``seconds_per_step`` is
    the wall time of a step after compilation.
    """

    days: int
    seconds_per_step: float
    unstable: dict[str, Any] | None = None
    bridge: str = ""


@dataclass(frozen=True)
class Noise:
    """Noise that is added to the first state of a run.

    Args:
        size: standard deviation, in units of the host's first prognostic variable (K; of ``lorenz96``, 1); 0: none.
        member: which noise.
    """

    size: float = 0.0
    member: int = 0


class Host(Protocol):
    """A model that supplies columns and can be driven by an emulator.

    Attributes:
        grid: its columns.
        variables: the largest variable set that it supplies.
        time_step: s.
        parameters: its settings, JSON-able.
        land: share of land of each column; None: it knows no land.
        processes: each process of its column physics, and the targets that an emulator of it must predict.
        groups: names of several processes together.
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

    @property
    def land(self) -> NDArray[np.float64] | None: ...

    @property
    def processes(self) -> Mapping[str, tuple[str, ...]]: ...

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]: ...

    def generate(self, path: Path | str, settings: Any) -> ColumnStore:
        """Make (or go on making) a column store."""
        ...

    def run(
        self,
        emulator: ColumnEmulator | None,
        restart: Path,
        days: int,
        folder: Path,
        drive: Drive | None = None,
        noise: Noise | None = None,
        on_day: Callable[[int, Mapping[str, NDArray[Any]]], str | None] | None = None,
        title: str = "couple",
    ) -> Integration:
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


def processes_of(variables: VariableSet, processes: Iterable[str]) -> frozenset[str]:
    """Which of a host's ``processes`` the targets of ``variables`` stand for.

    A tendency that is no sum stands for all of them; one that is a sum for what it adds (``x_tendency_<process>``), or,
    of a total, for all but what it subtracts.
    """
    known = frozenset(processes)
    found: set[str] = set()
    for variable in variables.targets:
        if variable.kind != "profile":
            continue
        signs: dict[bool, set[str]] = {True: set(), False: set()}
        for name, factor in variable.stored.items():
            whole, _, process = name.rpartition("_tendency_")
            signs[factor > 0] |= {process} if whole else known
        found |= signs[True] - signs[False]
    return frozenset(found)


def replaced_processes(word: str, host: Host) -> frozenset[str]:
    """What ``couple.replace=word`` names: ``all``, or processes and groups joined by ``_``.

    Raises:
        UsageError: a name that the host does not know.
    """
    if word == ALL:
        return frozenset(host.processes)
    found: set[str] = set()
    for name in word.split("_"):
        if name not in host.processes and name not in host.groups:
            raise unknown_name("couple.replace", name, [ALL, *host.processes, *host.groups])
        found |= set(host.groups.get(name, (name,)))
    return frozenset(found)


def check_fits(emulator: ColumnEmulator, host: Host, replace: str = AS_TRAINED) -> frozenset[str]:
    """The processes of ``host`` that the emulator replaces; refuses, before anything is compiled, what does not fit.

    Raises:
        UsageError: other levels, another time step, variables that the host does not supply, targets that it needs, or
            other processes than ``replace`` names; with what would fit.
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
    processes = processes_of(emulator.variables, host.processes)
    supplied = {v.name for v in host.variables.inputs}
    lacking = [v.name for v in emulator.variables.inputs if v.name not in supplied]
    needed = {name for process in processes for name in host.processes[process]}
    missing = sorted(needed - {v.name for v in emulator.variables.targets})
    if lacking or missing or not processes:
        parts = [f"reads {', '.join(lacking)}, which the host does not supply"] if lacking else []
        parts += [f"does not predict {', '.join(missing)}"] if missing else []
        parts += [] if processes or parts else ["has no tendency of a process of this host"]
        raise UsageError(
            f"variable set '{emulator.variables.name}' does not fit host '{host.name}': it {' and '.join(parts)}; "
            f"sets that fit: {', '.join(fitting_sets(host))}"
        )
    if replace != AS_TRAINED and (wanted := replaced_processes(replace, host)) != processes:
        raise UsageError(
            f"couple.replace={replace} means {', '.join(sorted(wanted))}, variable set '{emulator.variables.name}' "
            f"stands for {', '.join(sorted(processes))}: leave couple.replace out, or train with another set, such as "
            f"{', '.join(fitting_sets(host, wanted)) or 'one of your own'}"
        )
    return processes


def fitting_sets(host: Host, processes: frozenset[str] | None = None) -> list[str]:
    """Names of the variable sets that ``host`` can be driven with, of some ``processes`` or any."""
    found = []
    supplied = {v.name for v in host.variables.inputs}
    for name in variable_set_names():
        candidate = variable_set(name)
        stands_for = processes_of(candidate, host.processes)
        needed = {target for process in stands_for for target in host.processes[process]}
        fits = stands_for and needed <= {v.name for v in candidate.targets}
        if fits and {v.name for v in candidate.inputs} <= supplied and processes in (None, stands_for):
            found.append(name)
    return found


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


@register("column", ColumnConfig)
def _column(**settings: Any) -> Host:
    from subgrid.hosts.column.host import Columns

    return Columns(**settings)


@register("lorenz96", Lorenz96Config)
def _lorenz96(**settings: Any) -> Host:
    from subgrid.hosts.lorenz96.host import Lorenz96

    return Lorenz96(**settings)
