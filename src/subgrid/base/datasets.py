"""Datasets on disk, as Zarr groups that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from subgrid.base.files import make_folder, partial_path, replace_folder


def write_dataset(path: Path, dataset: xr.Dataset) -> None:
    """Write a Zarr group, in place of an older one when it is whole."""
    beside = partial_path(path)
    make_folder(beside.parent)
    dataset.to_zarr(beside, mode="w", consolidated=False)
    replace_folder(beside, path)
