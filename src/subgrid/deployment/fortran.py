"""The Fortran side of a bundle: a module that calls the model through FTorch, its test driver, CMake and make files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from subgrid.base.errors import UsageError
from subgrid.deployment.pages import fill

#: Longest name of a bundle, and longest identifier of Fortran.
NAME_LENGTH, IDENTIFIER_LENGTH = 40, 63
#: Longest line of free-form Fortran.
LINE_LENGTH = 132
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{NAME_LENGTH - 1}}}")


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
        "torch": _plain(contract["versions"]["torch"]),
        "torch_release": _plain(contract["versions"]["torch"]).split("+")[0],
        "kinds": ("real32", "real64"),
    }
    made = {
        f"{name}_ftorch.F90": "module.F90",
        "test/driver.F90": "driver.F90",
        "CMakeLists.txt": "CMakeLists.txt",
        f"{name}.mk": "bundle.mk",
    }
    return {path: fill(f"{source}.jinja", **values) for path, source in made.items()}


def as_name(text: str) -> str:
    """The name of a bundle nearest to ``text``."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    plain = plain if plain[:1].isalpha() else f"emulator_{plain}"
    return plain[:NAME_LENGTH].strip("_")


def require_name(name: str) -> None:
    """Raise :class:`UsageError` unless ``name`` can be that of a bundle."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"'{name}' cannot name a Fortran module: give at most {NAME_LENGTH} lower-case letters, digits and "
            "underscores, a letter first"
        )


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
