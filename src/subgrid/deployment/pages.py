"""Texts of a bundle from templates, which lie beside this file."""

from __future__ import annotations

from importlib import resources
from typing import Any


def fill(template: str, **values: Any) -> str:
    """The template of this name with ``values`` in it; a name that it lacks is an error of ours."""
    import jinja2

    text = (resources.files("subgrid.deployment") / "templates" / template).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(**values)
