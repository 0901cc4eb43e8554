"""The Fortran side of a bundle: a module that calls the model through FTorch, its test driver, CMake and make files."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from subgrid.base.errors import UsageError
from subgrid.base.provenance import versions
from subgrid.columns.variables import Variable, offsets
from subgrid.emulator.base import ColumnEmulator

TEMPLATES = Path(__file__).parent / "templates"
#: Longest name of a bundle, and longest identifier of Fortran.
NAME_LENGTH, IDENTIFIER_LENGTH = 40, 63
#: Longest line of free-form Fortran.
LINE_LENGTH = 132
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{NAME_LENGTH - 1}}}")
_READ = 1 << 20


def render(contract: Mapping[str, Any]) -> dict[str, str]:
    """The files of the Fortran side, as relative path to text.

    Args:
        contract: ``name``, ``n_in``, ``n_out``, ``levels``, ``time_step_s``, ``pcols``, ``variables`` (``inputs`` and
            ``outputs``: ``name``, ``units``, ``long_name``, ``kind``, ``first`` (from 1) and ``width`` of each),
            ``model`` (``file``, ``bytes``, ``crc32``) and ``versions``.

    Returns:
        ``NAME_ftorch.F90`` (the module), ``test/driver.F90`` (runs the test vectors), ``CMakeLists.txt`` and
        ``NAME.mk`` (a Makefile fragment).

    Raises:
        UsageError: ``name`` is no Fortran identifier of at most 40 lower-case characters, or the variables do not cover
            the inputs or outputs one after the other.
    """
    name = str(contract["name"])
    require_name(name)
    groups = {role: contract["variables"][role] for role in ("inputs", "outputs")}
    for role, total in (("inputs", contract["n_in"]), ("outputs", contract["n_out"])):
        _require_cover(role, groups[role], total)
    values = {
        **contract,
        "inputs": _described("in", groups["inputs"]),
        "outputs": _described("out", groups["outputs"]),
        "crc32": int(contract["model"]["crc32"]) & 0xFFFFFFFF,
        "torch": _plain(contract["versions"].get("torch", "unknown")),
        "kinds": ("real32", "real64"),
    }
    made = {
        f"{name}_ftorch.F90": "module.F90",
        "test/driver.F90": "driver.F90",
        "CMakeLists.txt": "CMakeLists.txt",
        f"{name}.mk": "bundle.mk",
    }
    environment = _environment()
    return {path: environment.get_template(f"{source}.jinja").render(values) for path, source in made.items()}


def describe(emulator: ColumnEmulator, model: Path, name: str, pcols: int = 16) -> dict[str, Any]:
    """What :func:`render` reads of a contract, from an emulator and the file that was exported of it.

    Args:
        emulator: whose variables, levels and time step are told.
        model: ``model.pt``, whose size and CRC-32 are told.
        name: of the bundle, a Fortran identifier.
        pcols: columns of a chunk of the host.

    Raises:
        UsageError: ``name`` is no Fortran identifier of at most 40 lower-case characters.
    """
    require_name(name)
    groups = {"inputs": emulator.variables.inputs, "outputs": emulator.variables.targets}
    listed = {role: _listed(variables, emulator.levels) for role, variables in groups.items()}
    widths = {role: sum(one["width"] for one in variables) for role, variables in listed.items()}
    return {
        "name": name,
        "n_in": widths["inputs"],
        "n_out": widths["outputs"],
        "levels": emulator.levels,
        "time_step_s": emulator.time_step,
        "pcols": pcols,
        "variables": listed,
        "model": {"file": model.name, "bytes": model.stat().st_size, "crc32": crc32(model)},
        "versions": versions(),
    }


def require_name(name: str) -> None:
    """Raise :class:`UsageError` unless ``name`` can be that of a bundle."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a Fortran module: give at most {NAME_LENGTH} lower-case letters, digits and "
            "underscores, a letter first"
        )


def crc32(path: Path) -> int:
    """CRC-32 of a file, read piece by piece."""
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_READ):
            found = zlib.crc32(piece, found)
    return found


def _listed(variables: Iterable[Variable], levels: int) -> list[dict[str, Any]]:
    """Each variable and where it lies in the flat vector, counted from 1."""
    variables = tuple(variables)
    place = offsets(variables, levels)
    return [
        {
            "name": v.name,
            "units": v.units,
            "long_name": v.long_name,
            "kind": v.kind,
            "first": place[v.name].start + 1,
            "width": v.width(levels),
        }
        for v in variables
    ]


def _require_cover(role: str, variables: Iterable[Mapping[str, Any]], total: int) -> None:
    after = 1
    for one in variables:
        if one["first"] != after or one["width"] < 1:
            raise UsageError(f"contract: {role} '{one['name']}' begins at {one['first']}, expected is {after}")
        after += one["width"]
    if after - 1 != total:
        raise UsageError(f"contract: the {role} have {after - 1} channels, not {total}")


def _described(prefix: str, variables: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the templates say of each variable: its identifiers, its place and a line of the table."""
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for one in variables:
        first, last = one["first"], one["first"] + one["width"] - 1
        words = f"{first:>6} {last:>6}  {_plain(one['name']):<24} {_plain(one['units']):<14} {_plain(one['long_name'])}"
        line = f"!{words}".rstrip()[:LINE_LENGTH]
        found.append({"id": _identifier(prefix, one["name"], taken), "first": first, "last": last, "line": line})
    return found


def _identifier(prefix: str, name: str, taken: set[str]) -> str:
    """``PREFIX_NAME`` such that it and ``_first`` are an identifier that no other variable has; Fortran has no case."""
    base = f"{prefix}_{re.sub(r'[^a-z0-9_]', '_', name.lower())}"
    longest = IDENTIFIER_LENGTH - len("_first")
    found, number = base[:longest], 1
    while found in taken:
        number += 1
        ending = f"_{number}"
        found = base[: longest - len(ending)] + ending
    taken.add(found)
    return found


def _plain(text: object) -> str:
    """Text that may stand in a comment of Fortran that a C preprocessor reads: one line of ASCII without quotes."""
    line = " ".join(str(text).split()).encode("ascii", "replace").decode("ascii")
    return re.sub(r"/\*|\*/|['\"\\]", " ", line)


def _quoted(text: object) -> str:
    """A character literal of Fortran."""
    return "'" + str(text).replace("'", "''") + "'"


def _environment() -> jinja2.Environment:
    """Templates of Fortran, CMake and make, which are no HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["quoted"] = _quoted
    return environment
