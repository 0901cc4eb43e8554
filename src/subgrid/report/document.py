"""A page of ``docs`` from its template, with figures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from subgrid.base.files import make_folder, write_file, write_text

DOTS_PER_INCH = 110


def write_document(
    docs: Path, name: str, filled: Mapping[str, str | Sequence[str]], figures: Mapping[str, Figure]
) -> Path:
    """Write ``docs/<name>.md`` and ``docs/images/<name>_<figure>.png``; returns the page.

    Args:
        docs: folder of pages.
        name: of the template among ``report/templates``.
        filled: what stands in place of each ``{{KEY}}``: text, or lines.
        figures: by name.
    """
    images = make_folder(docs / "images")
    for key, figure in figures.items():
        write_file(images / f"{name}_{key}.png", partial(_save, figure))
    text = (resources.files("subgrid.report") / "templates" / f"{name}.md").read_text(encoding="utf-8")
    for key, value in filled.items():
        text = text.replace("{{" + key + "}}", value if isinstance(value, str) else "\n".join(value))
    page = docs / f"{name}.md"
    write_text(page, text.rstrip() + "\n")
    return page


def _save(figure: Figure, file: Any) -> None:
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
