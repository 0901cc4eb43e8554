"""One self-contained HTML page from a folder of results."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from subgrid.base.files import only_writer, write_text
from subgrid.report.blocks import Drawing
from subgrid.report.facts import cards, facts, title
from subgrid.report.results import Results, read_results
from subgrid.report.sections import sections

TEMPLATES = Path(__file__).parent / "templates"


def data_uri(image: bytes) -> str:
    """PNG bytes as an address that needs no network."""
    return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"


def template(name: str) -> jinja2.Template:
    """A page of :data:`TEMPLATES` to be filled."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["data_uri"] = data_uri
    environment.tests["drawing"] = lambda block: isinstance(block, Drawing)
    return environment.get_template(name)


def render(results: Results) -> str:
    """The page as HTML."""
    return template("page.html").render(
        title=title(results),
        facts=facts(results),
        cards=cards(results),
        sections=sections(results),
    )


def write_report(folder: Path | str, out: Path | str | None = None, seeds: Sequence[Path | str] = ()) -> Path:
    """Write a page about everything that ``folder`` holds.

    Args:
        folder: a demo folder, or the folder of one run, evaluation, coupled run or export.
        out: the file to write, or a folder for ``report.html``; ``folder`` by default.
        seeds: folders of runs or evaluations of the same network from other seeds: bands around its R2 profiles.

    Returns:
        The file written.

    Raises:
        SubgridError: nothing to report, a damaged result, or ``out`` cannot be written.
    """
    folder = Path(folder)
    results = read_results(folder, [Path(seed) for seed in seeds])
    target = Path(out) if out is not None else folder
    if target.is_dir():
        target = target / "report.html"
    with only_writer(target):
        write_text(target, render(results))
    return target
