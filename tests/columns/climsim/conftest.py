"""Synthetic files of ClimSim, written once a session: one day of each published period, 12 columns, 9 levels."""

from __future__ import annotations

from pathlib import Path

import pytest

from subgrid.columns.climsim.sample import SampleConfig, write_sample

COLUMNS, LEVELS = 12, 9


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sample: ``train/YYYY-MM/`` and the grid file. Never written to."""
    folder = tmp_path_factory.mktemp("climsim") / "sample"
    write_sample(folder, SampleConfig(days=1, columns=COLUMNS, levels=LEVELS))
    return folder
