"""The wheel and the source archive: what they hold, and that the wheel works where the repository is not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
#: Files of the package that are not Python; each is read at run time, or by a type checker.
DATA = {
    str(p.relative_to(ROOT / "src"))
    for p in (ROOT / "src").rglob("*.*")
    if p.suffix in (".yaml", ".md", ".html", ".jinja")
}


def build(source: Path, out: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(out)], cwd=source, check=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder with both archives."""
    out = tmp_path_factory.mktemp("dist")
    build(ROOT, out)
    return out


@pytest.fixture(scope="module")
def site(dist, tmp_path_factory):
    """A folder with the installed wheel and nothing else of this repository."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*install, str(wheel(dist))], check=True)
    return folder


def wheel(dist: Path) -> Path:
    return dist / f"subgrid-{VERSION}-py3-none-any.whl"


def say(site: Path, *words: str) -> str:
    found = subprocess.run(
        words, capture_output=True, text=True, cwd=site.parent, env={**os.environ, "PYTHONPATH": str(site)}
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_the_wheel_holds_every_file_that_is_read_at_run_time(dist):
    names = set(zipfile.ZipFile(wheel(dist)).namelist())
    assert {"subgrid/columns/sets/speedy.yaml", "subgrid/report/templates/page.html"} <= DATA
    assert "subgrid/deployment/templates/module.F90.jinja" in DATA
    assert names >= {*DATA, "subgrid/py.typed"}
    assert all(name.startswith(("subgrid/", f"subgrid-{VERSION}.dist-info/")) for name in names)


def test_the_installed_wheel_lists_and_says_its_version(site):
    script = str(site / "bin" / "subgrid")
    assert say(site, script, "--version") == f"subgrid {VERSION}\n"
    listed = say(site, script, "list")
    assert all(name in listed for name in ("mlp", "unet", "standard", "speedy_expanded"))
    place = say(site, sys.executable, "-c", "import subgrid; print(subgrid.__file__, subgrid.__version__)")
    assert place == f"{site / 'subgrid' / '__init__.py'} {VERSION}\n"


def test_the_source_archive_can_be_worked_with(dist, tmp_path):
    shutil.unpack_archive(dist / f"subgrid-{VERSION}.tar.gz", tmp_path)
    source = tmp_path / f"subgrid-{VERSION}"
    for name in ("Makefile", "constraints.txt", "tests/conftest.py", "docs/index.md", "examples/plugin/pyproject.toml"):
        assert (source / name).is_file(), name
    build(source, tmp_path / "again")
    again, first = (set(zipfile.ZipFile(wheel(d)).namelist()) for d in (tmp_path / "again", dist))
    assert again == first


def test_the_version_is_written_once():
    stated = re.compile(rf"""version\S*\s*=\s*["']{re.escape(VERSION)}["']""")
    places = [p for p in (ROOT / "src").rglob("*.py") if stated.search(p.read_text())]
    assert places == []
