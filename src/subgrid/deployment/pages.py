"""Texts of a bundle from templates, which lie beside this file: pages, namelists, Fortran, CMake and make files."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


def fill(template: str, **values: Any) -> str:
    """The template of this name with ``values`` in it; a name that it lacks is an error of ours."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> jinja2.Environment:
    """None of them is HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("subgrid.deployment"),
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["quoted"] = _quoted
    return environment


def _quoted(text: object) -> str:
    """A character literal of Fortran."""
    return "'" + str(text).replace("'", "''") + "'"
