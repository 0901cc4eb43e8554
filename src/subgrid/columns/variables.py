"""Variables and variable sets: what an emulator reads and predicts, one YAML file a set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, unknown_name
from subgrid.base.plugins import offered
from subgrid.physics.constants import E3SM, SPEEDY, Constants

Kind = Literal["profile", "scalar"]
ENTRY_POINT_GROUP = "subgrid.variable_sets"
#: Physical constants by the name that a variable set gives.
CONSTANTS = {"speedy": SPEEDY, "e3sm": E3SM}
#: Levels of the columns that those models usually give.
LEVELS = {"speedy": 8, "e3sm": 60}


@dataclass(frozen=True)
class Variable:
    """One physical quantity of a column.

    Args:
        name: the name used in stores, results and figures.
        kind: ``"profile"`` (a value per level, level 0 = top) or ``"scalar"`` (one value).
        units: SI units as written in files.
        long_name: what a reader sees on an axis.
        energy: how to turn it into W/m2: ``temperature`` (cp dp/g), ``water`` (Lv dp/g for a profile,
            Lv for a flux in kg/m2/s), ``water_depth`` (Lv rho_water for a flux in m/s), ``wind`` (speed dp/g),
            ``flux`` (already W/m2) or ``""`` (no energy meaning).
        standard: the quantity that it is, by a name common to all hosts (``temperature``, ``surface_pressure``);
            empty: its own name.
        sum_of: (name, factor) of each stored variable that this one is the sum of; empty for one stored as it is.
    """

    name: str
    kind: Kind
    units: str
    long_name: str = ""
    energy: str = ""
    standard: str = ""
    sum_of: tuple[tuple[str, float], ...] = ()

    def channels(self, levels: int) -> list[str]:
        """Labels of this variable's channels: ``name_0`` ... for a profile, ``name`` for a scalar."""
        return [f"{self.name}_{k}" for k in range(levels)] if self.kind == "profile" else [self.name]

    def width(self, levels: int) -> int:
        """Number of channels: ``levels`` for a profile, 1 for a scalar."""
        return levels if self.kind == "profile" else 1

    @property
    def quantity(self) -> str:
        """The name common to all hosts, by which features, constraints and scores look for it."""
        return self.standard or self.name

    @property
    def stored(self) -> dict[str, float]:
        """The stored variables that make this one up, each with its factor."""
        return dict(self.sum_of) or {self.name: 1.0}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read back by :meth:`from_dict`."""
        found: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "units": self.units,
            "long_name": self.long_name,
            "energy": self.energy,
        }
        if self.standard:
            found["standard"] = self.standard
        if self.sum_of:
            found["sum_of"] = dict(self.sum_of)
        return found

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Variable:
        """Rebuild from :meth:`to_dict`; raises :class:`SubgridError` for a malformed entry."""
        try:
            text = {k: str(v) for k, v in values.items() if k != "sum_of"}
            sums = tuple((str(k), float(v)) for k, v in dict(values.get("sum_of", {})).items())
            variable = cls(**text, sum_of=sums)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise SubgridError(f"malformed variable description {values}: {error}") from error
        if variable.kind not in ("profile", "scalar"):
            raise SubgridError(f"variable '{variable.name}': kind is '{variable.kind}', not profile or scalar")
        return variable


def profiles(variables: Iterable[Variable]) -> list[Variable]:
    """The profile variables, in order."""
    return [v for v in variables if v.kind == "profile"]


def scalars(variables: Iterable[Variable]) -> list[Variable]:
    """The scalar variables, in order."""
    return [v for v in variables if v.kind == "scalar"]


def channel_labels(variables: Iterable[Variable], levels: int) -> list[str]:
    """Labels of the flat layout: variable after variable in the given order."""
    return [label for variable in variables for label in variable.channels(levels)]


def offsets(variables: Iterable[Variable], levels: int) -> dict[str, slice]:
    """Where each variable lies in the flat layout (derived, never typed in)."""
    found: dict[str, slice] = {}
    start = 0
    for variable in variables:
        width = variable.width(levels)
        found[variable.name] = slice(start, start + width)
        start += width
    return found


def quantities(variables: Iterable[Variable], levels: int) -> dict[str, slice]:
    """Where each quantity (see :attr:`Variable.quantity`) lies in the flat layout."""
    variables = tuple(variables)
    place = offsets(variables, levels)
    return {v.quantity: place[v.name] for v in variables}


@dataclass(frozen=True)
class VariableSet:
    """What an emulator reads (``inputs``) and predicts (``targets``); profiles first, then scalars.

    Args:
        name: of the set.
        inputs, targets: its variables.
        description: one line.
        constants: physical constants of the model that they come from, ``speedy`` or ``e3sm``.
        emulator: settings of an emulator that differ here from the general defaults.
        published_inputs: names of the inputs in the order of published flat files and networks; empty: ours.
        expanded: the set with previous steps, dynamics tendencies and latitude beside these inputs; its own name if
            it is such a set, empty if there is none.
    """

    name: str
    inputs: tuple[Variable, ...]
    targets: tuple[Variable, ...]
    description: str = ""
    constants: str = "speedy"
    emulator: dict[str, Any] = field(default_factory=dict, compare=False)
    published_inputs: tuple[str, ...] = field(default=(), compare=False)
    expanded: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for role, variables in (("inputs", self.inputs), ("targets", self.targets)):
            names = [v.name for v in variables]
            repeated = sorted({n for n in names if names.count(n) > 1})
            if repeated:
                raise SubgridError(f"variable set '{self.name}': {role} repeat {', '.join(repeated)}")
            kinds = [v.kind for v in variables]
            if kinds != sorted(kinds):
                raise SubgridError(f"variable set '{self.name}': {role} must list profiles before scalars")
        if self.constants not in CONSTANTS:
            raise unknown_name(f"constants of variable set '{self.name}'", self.constants, CONSTANTS)

    @property
    def physics(self) -> Constants:
        """Physical constants of the model that the variables come from."""
        return CONSTANTS[self.constants]

    @property
    def usual_levels(self) -> int:
        """Levels of the columns that the model usually gives: 8 of SPEEDY, 60 of ClimSim's E3SM."""
        return LEVELS[self.constants]

    def published_order(self, levels: int) -> NDArray[np.intp]:
        """Where each channel of the published flat input lies in ours, (n_in,): ``published = ours[:, order]``."""
        if not self.published_inputs:
            return np.arange(sum(v.width(levels) for v in self.inputs))
        place = offsets(self.inputs, levels)
        return np.concatenate([np.arange(place[n].start, place[n].stop) for n in self.published_inputs])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read back by :meth:`from_dict`."""
        return {
            "name": self.name,
            "description": self.description,
            "constants": self.constants,
            "inputs": [v.to_dict() for v in self.inputs],
            "targets": [v.to_dict() for v in self.targets],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VariableSet:
        """Rebuild from :meth:`to_dict`; raises :class:`SubgridError` for malformed content."""
        try:
            return cls(
                name=str(values["name"]),
                description=str(values.get("description", "")),
                constants=str(values.get("constants", "speedy")),
                inputs=tuple(Variable.from_dict(v) for v in values["inputs"]),
                targets=tuple(Variable.from_dict(v) for v in values["targets"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SubgridError(f"malformed variable set: {error}") from error


def _own_sets() -> dict[str, Traversable]:
    """This package's YAML files by set name."""
    folder = resources.files("subgrid.columns") / "sets"
    return {e.name.removesuffix(".yaml"): e for e in folder.iterdir() if e.name.endswith(".yaml")}


def variable_set_names() -> list[str]:
    """All variable sets: those here and those that installed packages offer.

    An entry point of the group ``subgrid.variable_sets`` has the set's name and the package in which its YAML lies.
    """
    return sorted({*_own_sets(), *offered(ENTRY_POINT_GROUP)})


def _set_file(name: str) -> Traversable:
    """The YAML of a set; :class:`SubgridError` for an unknown name, or a package that lacks the file it announces."""
    own = _own_sets()
    if name in own:
        return own[name]
    point = offered(ENTRY_POINT_GROUP).get(name)
    if point is None:
        raise unknown_name("variable set", name, variable_set_names())
    try:
        file = resources.files(point.value) / f"{name}.yaml"
    except Exception as error:
        raise SubgridError(f"variable set '{name}': importing {point.value} failed: {error}") from error
    if not file.is_file():
        raise SubgridError(f"variable set '{name}': package {point.value} has no {name}.yaml")
    return file


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, of which plain YAML silently keeps the last."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = loader.construct_pairs(node, deep=True)
    keys = [key for key, _ in pairs]
    repeated = [str(key) for key in keys if keys.count(key) > 1]
    if repeated:
        raise yaml.YAMLError(f"'{repeated[0]}' is given twice")
    return dict(pairs)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True)
class Catalogue:
    """Variables that several sets share, and names for groups of them."""

    variables: Mapping[str, Variable] = field(default_factory=dict)
    groups: Mapping[str, list[str]] = field(default_factory=dict)

    def names(self, listed: Iterable[str]) -> list[str]:
        """``listed`` with every group replaced by its members."""
        return [name for one in listed for name in self.groups.get(one, [one])]

    def pick(self, listed: Iterable[str], kind: str) -> list[Variable]:
        """The variables and groups ``listed``; raises :class:`SubgridError` for one unknown or not of ``kind``."""
        names = self.names(listed)
        wrong = [n for n in names if n not in self.variables or self.variables[n].kind != kind]
        if wrong:
            raise SubgridError(f"its catalogue has no {kind} {', '.join(wrong)}")
        return [self.variables[n] for n in names]


@cache
def catalogue(name: str) -> Catalogue:
    """The catalogue of ``catalogues/<name>.yaml``; raises :class:`SubgridError` if there is none."""
    file = resources.files("subgrid.columns") / "catalogues" / f"{name}.yaml"
    if not file.is_file():
        raise SubgridError(f"there is no catalogue '{name}'")
    content = yaml.load(file.read_text(), _Loader)  # noqa: S506 (a SafeLoader)
    return Catalogue({v.name: v for v in _parse(content, Catalogue())}, content.get("groups", {}))


def _parse(section: dict[str, Any] | None, known: Catalogue) -> list[Variable]:
    """Variables by kind: described one by one, or a list of names in the catalogue."""
    found = []
    for kind, group in (("profile", "profiles"), ("scalar", "scalars")):
        held = (section or {}).get(group) or {}
        if isinstance(held, dict):
            found += [Variable.from_dict({"name": name, "kind": kind, **details}) for name, details in held.items()]
        else:
            found += known.pick(held, kind)
    return found


def variable_set(name: str) -> VariableSet:
    """The variable set called ``name``.

    A set's YAML may say ``extends: other``: the other's variables come first within each kind. One that is given again
    with ``sum_of`` takes the other's place; given again without, it is refused. ``inputs: other`` are those of another.

    Raises:
        UsageError: no such set (with the nearest names).
        SubgridError: its file is malformed.
    """
    return _read_set(name, ())


def _extended(base: Iterable[Variable], own: list[Variable]) -> list[Variable]:
    """``base`` and then ``own``; a sum in ``own`` takes the place of the variable of its name."""
    known = {v.name for v in base}
    sums = {v.name: v for v in own if v.sum_of and v.name in known}
    return [*(sums.get(v.name, v) for v in base), *(v for v in own if v.name not in sums)]


def _read_set(name: str, extending: tuple[str, ...]) -> VariableSet:
    file = _set_file(name)
    if name in extending:
        raise SubgridError(f"variable sets extend one another in a circle: {' -> '.join((*extending, name))}")
    try:
        content = yaml.load(file.read_text(), _Loader)  # noqa: S506 (a SafeLoader)
        known = catalogue(str(content["catalogue"])) if "catalogue" in content else Catalogue()
        given, targets = content.get("inputs"), _parse(content.get("targets"), known)
        shared = _read_set(given, (*extending, name)).inputs if isinstance(given, str) else None
        inputs = list(shared) if shared is not None else _parse(given, known)
        parent = content.get("extends")
        description = str(content.get("description", ""))
        published = known.names(content.get("published_inputs") or [])
        constants, emulator = content.get("constants"), dict(content.get("emulator") or {})
        expanded = str(content.get("expanded", ""))
    except (yaml.YAMLError, AttributeError, TypeError, SubgridError) as error:
        raise SubgridError(f"variable set '{name}': malformed file {file} ({error})") from error
    if parent:
        base = _read_set(str(parent), (*extending, name))
        inputs, targets = _extended(base.inputs, inputs), _extended(base.targets, targets)
        constants, emulator = constants or base.constants, {**base.emulator, **emulator}
    return VariableSet(
        name=name,
        inputs=tuple([*profiles(inputs), *scalars(inputs)]),
        targets=tuple([*profiles(targets), *scalars(targets)]),
        description=description,
        expanded=expanded,
        constants=str(constants or "speedy"),
        emulator=emulator,
        published_inputs=tuple(published),
    )
