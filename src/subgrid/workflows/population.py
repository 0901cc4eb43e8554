"""A hundred networks of each of two designs inside small hosts: survival, what foretells it, what tells them apart."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from subgrid.base.errors import SubgridError
from subgrid.base.files import make_folder, only_writer, read_json, write_json
from subgrid.base.logs import log_file
from subgrid.columns.store import open_store
from subgrid.coupling.population import run_population
from subgrid.hosts.base import host
from subgrid.hosts.sampling import GenerateConfig
from subgrid.hosts.small import TorchHost
from subgrid.report.population import population_page
from subgrid.scores.survival import members_needed, power, power_of_errors, rank_correlation
from subgrid.training.population import PopulationConfig, fit_population, r2_of

logger = logging.getLogger("subgrid")
MEMBERS = 100


@dataclass(frozen=True)
class Design:
    """One way to train a population."""

    name: str
    text: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """Two designs inside one host.

    Args:
        host, settings: of the host.
        sampling: of its store.
        designs: the two.
        days: of the run; ``online`` of them, from the first, are averaged for the online error.
    """

    name: str
    host: str
    settings: dict[str, Any]
    sampling: GenerateConfig
    designs: tuple[Design, Design]
    days: int
    online: int


SAMPLING = GenerateConfig(
    spin_up_days=60,
    train_days=300,
    evaluation_days=120,
    fraction=0.6,
    evaluation_fraction=0.6,
    perturbed_fraction=0.0,
)
CASES = (
    Case(
        "column",
        "column",
        {"columns": 32},
        SAMPLING,
        (
            Design("raw", "temperature and specific humidity as they are", {"emulator": {"inputs": "raw"}}),
            Design("buoyancy", "relative humidity and plume buoyancy"),
        ),
        90,
        20,
    ),
    Case(
        "lorenz96",
        "lorenz96",
        {"columns": 64},
        SAMPLING,
        (
            Design("free", "no bounds", {"emulator": {"clip_inputs": False, "clip_outputs": False}}),
            Design(
                "noise",
                "no bounds, input noise 0.3",
                {"emulator": {"clip_inputs": False, "clip_outputs": False}, "input_noise": 0.3},
            ),
        ),
        60,
        3,
    ),
)


def population(store: Path | None, out: Path, docs: Path | None = None) -> Path:
    """Make the stores, train and run every population that is missing, and write ``population.md``.

    Args:
        store: not used; the hosts are small and make their own.
        out: folder of stores and results.
        docs: where page, figures and ``results_population`` go (None: ``out``).
    """
    del store
    docs = docs or out
    results = make_folder(docs / "results_population")
    make_folder(out)
    with only_writer(out / "population"), log_file(out, "population"):
        for case in CASES:
            for design in case.designs:
                file = results / f"{case.name}-{design.name}.json"
                if not file.exists():
                    write_json(file, _run(case, design, out))
    return write_page(results, docs)


def _run(case: Case, design: Design, out: Path) -> dict[str, Any]:
    """Offline skill and life of every member of one design."""
    driven = host(case.host, **case.settings)
    assert isinstance(driven, TorchHost)
    path = out / f"{case.name}.zarr"
    store = open_store(path) if path.exists() else driven.generate(path, case.sampling)
    config = PopulationConfig(members=MEMBERS, **design.settings)
    trained = fit_population(store, config)
    restart = sorted((store.local() / "restarts").glob("*.safetensors"))[0]
    lives = run_population(driven, trained, restart, case.days)
    rmse = lives["rmse"].values[:, : case.online]
    return {
        "host": case.host,
        "host_settings": dict(driven.parameters),
        "sampling": asdict(case.sampling),
        "design": asdict(design),
        "population": asdict(config),
        "days": case.days,
        "online_days": case.online,
        "r2": _rounded(r2_of(trained, store["test"])),
        "lasted": [int(v) for v in lives["lasted"].values],
        "ended": [bool(v) for v in lives["ended"].values],
        "rmse": [None if np.isnan(row).any() else float(f"{row.mean():.6g}") for row in rmse],
        "together": trained.together,
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.6g}") for v in values]


def write_page(results: Path, docs: Path) -> Path:
    """Write the page from the files of results.

    Raises:
        SubgridError: none is there.
    """
    found = []
    for case in CASES:
        files = [results / f"{case.name}-{design.name}.json" for design in case.designs]
        if all(file.exists() for file in files):
            records = [read_json(file) for file in files]
            found.append({"name": case.name, "records": records, **_compared(records)})
    if not found:
        raise SubgridError(f"{results} has no finished case: run `subgrid study population`")
    return population_page(found, docs)


def _compared(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What both designs together say: does offline skill foretell life and error, and how many tell them apart."""
    correlations = []
    for record in records:
        r2, rmse = np.asarray(record["r2"]), record["rmse"]
        lived = np.asarray([v is not None for v in rmse])
        some = lived.sum() >= 3
        correlations.append(
            {
                "life": _correlation(r2, np.asarray(record["lasted"], float)),
                "error": _correlation(r2[lived], np.asarray([v for v in rmse if v is not None])) if some else None,
            }
        )
    one, other = ((record["lasted"], record["ended"]) for record in records)
    near, far = (np.asarray([np.nan if v is None else v for v in record["rmse"]]) for record in records)
    needed = {
        "life": members_needed(lambda members: power(one, other, members)),
        "error": members_needed(lambda members: power_of_errors(near, far, members)),
    }
    return {"correlations": correlations, "needed": needed}


def _correlation(one: np.ndarray, other: np.ndarray) -> list[float] | None:
    """Rank correlation with its interval; None where one of them does not vary."""
    return list(rank_correlation(one, other)) if np.ptp(one) > 0 and np.ptp(other) > 0 else None
