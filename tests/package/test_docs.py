"""The documentation site: built without a warning, every page in its navigation, every module in its reference."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def build(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The site in ``tmp_path/site`` from a copy of the sources (Sphinx writes beside them), warnings as errors."""
    source = tmp_path / "docs"
    if not source.exists():
        shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("_build", "_api"))
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        *options,
        str(source),
        str(tmp_path / "site"),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def without_running(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    # The lexer of a notebook is known only from a kernel.
    extensions = "myst_nb,sphinx.ext.autodoc,sphinx.ext.autosummary,sphinx.ext.napoleon"  # not the sources as pages
    off = ("nb_execution_mode=off", "suppress_warnings=myst-nb.lexer", f"extensions={extensions}")
    # everything is read and every reference resolved, but no page is written
    return build(tmp_path, "-b", "dummy", *(word for setting in off for word in ("-D", setting)))


def test_pages_links_and_reference_are_whole(tmp_path):
    """Sphinx warns of a missing file, heading or image, and of a page outside the navigation."""
    found = without_running(tmp_path)
    assert found.returncode == 0, found.stderr
    read = tmp_path / "site" / ".doctrees"
    assert all((read / f"{page.stem}.doctree").is_file() for page in PAGES)
    package = ROOT / "src" / "subgrid"
    modules = {".".join(p.relative_to(package.parent).with_suffix("").parts) for p in package.rglob("[a-z]*.py")}
    reference = {page.stem for page in (read / "_api").glob("*.doctree")}
    assert modules <= reference, modules - reference
    assert b"Rebuild from" in (read / "_api" / "subgrid.columns.variables.doctree").read_bytes()


def test_a_broken_link_and_a_page_outside_the_navigation_fail_the_build(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("_build", "_api", "api.md"))
    with (tmp_path / "docs" / "list.md").open("a") as page:
        page.write("\n[gone](gone.md) ![gone](images/gone.png)\n")
    (tmp_path / "docs" / "lost.md").write_text("# Lost\n")
    found = without_running(tmp_path)
    assert found.returncode != 0
    for name in ("gone.md", "images/gone.png", "lost.md", "'api'"):
        assert name in found.stderr


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda p: p.name)
def test_links_work_where_the_page_is_read_as_it_is(page):
    """As a code-hosting site shows it: relative to the page."""
    text = page.read_text()
    links = [part.split(")")[0].split("#")[0] for part in text.split("](")[1:]]
    missing = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    found = build(tmp_path)
    assert found.returncode == 0, found.stderr
    text = (tmp_path / "site" / "tutorial.html").read_text()
    assert '<img alt="_images/' in text and "Traceback" not in text
