"""Variables and variable sets: what an emulator reads and predicts, one YAML file a set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal

import yaml

from subgrid.base.errors import SubgridError, unknown_name
from subgrid.base.plugins import offered

Kind = Literal["profile", "scalar"]
ENTRY_POINT_GROUP = "subgrid.variable_sets"


@dataclass(frozen=True)
class Variable:
    """One physical quantity of a column.

    Args:
        name: the name used in stores, results and figures.
        kind: ``"profile"`` (a value per level, level 0 = top) or ``"scalar"`` (one value).
        units: SI units as written in files.
        long_name: what a reader sees on an axis.
        energy: how to turn it into W/m2: ``temperature`` (cp dp/g), ``water`` (Lv dp/g for a profile,
            Lv for a flux in kg/m2/s), ``flux`` (already W/m2) or ``""`` (no energy meaning).
        sum_of: (name, factor) of each stored variable that this one is the sum of; empty for one stored as it is.
    """

    name: str
    kind: Kind
    units: str
    long_name: str = ""
    energy: str = ""
    sum_of: tuple[tuple[str, float], ...] = ()

    def channels(self, levels: int) -> list[str]:
        """Labels of this variable's channels: ``name_0`` ... for a profile, ``name`` for a scalar."""
        return [f"{self.name}_{k}" for k in range(levels)] if self.kind == "profile" else [self.name]

    def width(self, levels: int) -> int:
        """Number of channels: ``levels`` for a profile, 1 for a scalar."""
        return levels if self.kind == "profile" else 1

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
        return {**found, "sum_of": dict(self.sum_of)} if self.sum_of else found

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


@dataclass(frozen=True)
class VariableSet:
    """What an emulator reads (``inputs``) and predicts (``targets``); profiles first, then scalars."""

    name: str
    inputs: tuple[Variable, ...]
    targets: tuple[Variable, ...]
    description: str = ""
    meta: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for role, variables in (("inputs", self.inputs), ("targets", self.targets)):
            names = [v.name for v in variables]
            repeated = sorted({n for n in names if names.count(n) > 1})
            if repeated:
                raise SubgridError(f"variable set '{self.name}': {role} repeat {', '.join(repeated)}")
            kinds = [v.kind for v in variables]
            if kinds != sorted(kinds):
                raise SubgridError(f"variable set '{self.name}': {role} must list profiles before scalars")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read back by :meth:`from_dict`."""
        return {
            "name": self.name,
            "description": self.description,
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


def _parse(section: dict[str, Any] | None) -> list[Variable]:
    section = section or {}
    found = []
    for kind, group in (("profile", "profiles"), ("scalar", "scalars")):
        for name, details in (section.get(group) or {}).items():
            found.append(Variable.from_dict({"name": name, "kind": kind, **details}))
    return found


def variable_set(name: str) -> VariableSet:
    """The variable set called ``name``.

    A set's YAML may say ``extends: other``: the other's variables come first within each kind. One that is given again
    with ``sum_of`` takes the other's place; given again without, it is refused.

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
        inputs, targets = _parse(content.get("inputs")), _parse(content.get("targets"))
        parent = content.get("extends")
        description = str(content.get("description", ""))
    except (yaml.YAMLError, AttributeError, TypeError, SubgridError) as error:
        raise SubgridError(f"variable set '{name}': malformed file {file} ({error})") from error
    if parent:
        base = _read_set(str(parent), (*extending, name))
        inputs, targets = _extended(base.inputs, inputs), _extended(base.targets, targets)
    return VariableSet(
        name=name,
        inputs=tuple([*profiles(inputs), *scalars(inputs)]),
        targets=tuple([*profiles(targets), *scalars(targets)]),
        description=description,
    )
