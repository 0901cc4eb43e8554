"""One synthetic demo for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from subgrid.report import write_report

from .builder import make_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo folder with everything in it (not to be changed)."""
    return make_demo(tmp_path_factory.mktemp("report") / "demo")


@pytest.fixture(scope="session")
def page(demo: Path) -> str:
    """Its page."""
    return write_report(demo).read_text(encoding="utf-8")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not rasterised, where a test is about the rest of the page."""
    monkeypatch.setattr("subgrid.report.blocks.png", lambda figure, dpi=160: b"\x89PNG")
