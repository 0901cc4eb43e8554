"""A bundle of the tiny run, made once."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, tiny_run, tiny_store):
    """The folder of a bundle for FTorch; do not change it."""
    from subgrid.deployment import ExportConfig, export

    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export(tiny_run, out, ExportConfig(str(tiny_store.path)))
    return out
