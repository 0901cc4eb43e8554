"""Stores that studies make of the host of another store: with other seas, on another grid, with further targets."""

from __future__ import annotations

from pathlib import Path

from subgrid.columns.store import ColumnStore
from subgrid.hosts.base import host, host_of
from subgrid.hosts.sampling import GenerateConfig

WARMER = "+4K"
#: Names of the stores below the folder of a study.
WARMER_STORE, FINER_STORE, TERMS_STORE = "warmer.zarr", "finer.zarr", "terms.zarr"


def warmer_store(held: ColumnStore, out: Path) -> Path:
    """Four months of the host of ``held`` above warmer seas (made once)."""
    made = out / WARMER_STORE
    settings = {**host_of(held).parameters, "sst": WARMER}
    given = held.spec.provenance["generate"]
    sampling = GenerateConfig(
        spin_up_days=given["spin_up_days"],
        train_days=1,
        evaluation_days=min(120, given["evaluation_days"]),
        stride=given["stride"],
        perturbed_fraction=0.0,
        seed=given["seed"],
    )
    host(held.spec.host, **settings).generate(made, sampling)
    return made


def finer_store(held: ColumnStore, out: Path, days: int) -> Path:
    """Columns of the host of ``held`` at T31, with ``days`` to run along after the year of training (made once)."""
    made = out / FINER_STORE
    given = held.spec.provenance["generate"]
    sampling = GenerateConfig(
        spin_up_days=given["spin_up_days"],
        train_days=given["train_days"],
        evaluation_days=days + 5,
        fraction=0.15,
        evaluation_fraction=0.02,
        perturbed_fraction=0.06,
        stride=given["stride"],
        seed=given["seed"],
    )
    host(held.spec.host, **{**host_of(held).parameters, "truncation": 31}).generate(made, sampling)
    return made


def store_with_terms(held: ColumnStore, out: Path) -> Path:
    """Columns of the host of ``held`` that also hold the tendencies of each process (made once; another program, thus
    another weather)."""
    made = out / TERMS_STORE
    host_of(held).generate(made, GenerateConfig(**{**held.spec.provenance["generate"], "terms": True}))
    return made
