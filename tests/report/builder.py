"""Synthetic results of every kind on a 16 x 8 grid, written where a demo would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from subgrid.base.files import write_json
from subgrid.base.formats import BUNDLE, EVALUATION, RUN, write_record
from subgrid.base.provenance import versions
from subgrid.columns import ColumnGrid, StoreWriter, variable_set
from subgrid.columns.layout import StoreSpec
from subgrid.columns.variables import catalogue
from subgrid.coupling.compare import compare, verdict
from subgrid.evaluation.baselines import beside
from subgrid.evaluation.climsim import ABOUT
from subgrid.physics.vertical import VerticalGrid

LONGITUDES, LATITUDES = 16, 8
BOUNDARIES = (0.0, 0.05, 0.14, 0.26, 0.42, 0.60, 0.77, 0.90, 1.0)
DAYS = 12
HOST = {"truncation": 5, "levels": 8, "time_step_minutes": 30, "start": "2000-10-03"}


def grid() -> ColumnGrid:
    """Columns on a regular grid, latitude fastest, as a host supplies them."""
    edges = np.linspace(-90.0, 90.0, LATITUDES + 1)
    latitude = np.tile(0.5 * (edges[1:] + edges[:-1]), LONGITUDES)
    longitude = np.repeat(np.arange(LONGITUDES) * 360.0 / LONGITUDES, LATITUDES)
    area = np.cos(np.deg2rad(latitude))
    return ColumnGrid(latitude, longitude, area, VerticalGrid.sigma(BOUNDARIES), (LONGITUDES, LATITUDES))


def make_store(path: Path) -> None:
    """A small column store with a continent."""
    places, rng = grid(), np.random.default_rng(0)
    variables = variable_set("speedy")
    arrays = {"inputs": variables.inputs, "targets": variables.targets}
    spec = StoreSpec(places, arrays, 1800.0, "speedy", {"host": HOST, "versions": versions()}, block=128)
    writer = StoreWriter(path, spec)
    land = ((places.longitude > 60) & (places.longitude < 200) & (np.abs(places.latitude) < 60)).astype(float)
    at = 24 + [v.name for v in variables.inputs].index("land_fraction")
    for k, split in enumerate(("train", "validation", "test")):
        rows: dict[str, Any] = {
            name: rng.normal(size=(places.columns, sum(v.width(8) for v in held))).astype(np.float32)
            for name, held in arrays.items()
        }
        rows["inputs"][:, at + 4] = land
        rows["time"] = np.full(places.columns, 978307200 + k * 86400 * 200, np.int64)
        rows["column"] = np.arange(places.columns, dtype=np.int32)
        rows["weight"] = places.area.astype(np.float32)
        writer.append(split, rows)
    writer.finish()


def make_run(folder: Path, data: str) -> None:
    """A finished training run."""
    folder.mkdir(parents=True)
    config = {
        "data": data,
        "variables": "speedy",
        "architecture": "mlp",
        "size": "small",
        "network": {"width": 64},
        "recipe": "standard",
        "recipe_settings": {"epochs": 5},
        "emulator": {"inputs": "relative_humidity", "clip_inputs": True, "clip_outputs": True, "condense": False},
        "seed": 3,
        "precision": "32-true",
    }
    losses = [
        {"epoch": k, "train_loss_epoch": 0.6 / k**0.5, "val_loss": 0.55 / k**0.45 + 0.02 * (k == 5)}
        for k in range(1, 6)
    ]
    metrics = {
        "best_val_loss": 0.294,
        "epochs": 5,
        "steps": 500,
        "seconds": 61.5,
        "parameters": 12345,
        "columns_per_epoch": 128000,
        "losses": losses,
    }
    write_record(folder / "config.json", RUN, config)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "provenance.json", {"store": {"host": HOST}, "versions": versions()})


def scores() -> dict[str, Any]:
    """Scores as the evaluation writes them; humidity does not vary at the top."""
    rng = np.random.default_rng(1)
    targets = variable_set("speedy").targets
    models: dict[str, Any] = {}
    for model, level in (("emulator", 0.85), ("ridge", 0.2), ("mean", -0.001)):
        models[model] = {}
        for variable in targets:
            scale = {"K/s": 1e-5, "kg/kg/s": 1e-8, "kg/m2/s": 1e-5}.get(variable.units, 2.0)
            entry = {"r2": level, "mae": scale, "rmse": 2 * scale, "bias": 0.1 * scale, "n_constant": 0}
            energy = 7.5 if variable.energy else None
            entry |= {"mae_energy": energy, "rmse_energy": energy, "bias_energy": energy}
            if variable.kind == "profile":
                r2: list[float | None] = list(level - 0.1 * rng.random(8))
                if "humidity" in variable.name:
                    r2[0], r2[1] = None, -3.0 if model == "emulator" else r2[1]
                if "wind" in variable.name:
                    r2[:7] = [None] * 7
                entry |= {
                    "r2_level": r2,
                    "mae_level": list(scale * (1 + rng.random(8))),
                    "rmse_level": list((2 - level) * scale * (1 + rng.random(8))),
                    "bias_level": list(0.1 * scale * rng.normal(size=8)),
                }
            models[model][variable.name] = entry
    return {
        "split": "test",
        "samples": 128,
        "columns": 128,
        "constant_channels": 15,
        "levels_sigma": list(grid().vertical.sigma_levels),
        "variables": {
            v.name: {
                "kind": v.kind,
                "units": v.units,
                "long_name": v.long_name,
                "energy_units": "W/m2" if v.energy else None,
            }
            for v in targets
        },
        "models": models,
        "versions": versions(),
    }


def sections() -> xr.Dataset:
    """Zonal cross-sections as the evaluation writes them."""
    rng, places = np.random.default_rng(2), grid()
    found: dict[str, Any] = {}
    for variable in variable_set("speedy").targets:
        if variable.kind == "profile":
            scale = {"K/s": 1e-5, "kg/kg/s": 1e-8}.get(variable.units, 1e-5)
            r2 = 1 - rng.random((LATITUDES, 8)) ** 2 * 1.3
            r2[0, :2] = np.nan
            found[f"r2_{variable.name}"] = (("latitude", "level"), r2)
            for kind in ("truth", "bias"):
                values = scale * rng.normal(size=(LATITUDES, 8))
                found[f"{kind}_{variable.name}"] = (("latitude", "level"), values)
    sigma = np.asarray(places.vertical.sigma_levels)
    return xr.Dataset(found, coords={"latitude": np.unique(places.latitude), "sigma": ("level", sigma)})


def daily(seed: int, drift: float = 0.0, days: int = DAYS) -> xr.Dataset:
    """Daily means of a plausible climate that warms by ``drift`` K a day."""
    rng, places = np.random.default_rng(seed), grid()
    sigma = np.asarray(places.vertical.sigma_levels)[None, :, None]
    cosine = np.cos(np.deg2rad(places.latitude))[None, None, :]
    time = np.datetime64("2002-01-25") + np.arange(days) * np.timedelta64(1, "D")
    weather = rng.normal(size=(days, 8, places.columns))
    profiles = {
        "temperature": 190 + 95 * sigma + 20 * cosine + weather + drift * np.arange(days)[:, None, None],
        "specific_humidity": 0.015 * sigma**3 * cosine * (1 + 0.05 * weather),
        "u_wind": 30 * (1 - sigma) * cosine + 3 * weather,
    }
    flux = {
        "outgoing_longwave": 235.0,
        "absorbed_solar": 236.0,
        "surface_net_shortwave": 170.0,
        "surface_upward_longwave": 390.0,
        "surface_downward_longwave": 330.0,
        "sensible_heat_flux": 20.0,
        "column_water_vapour": 25.0,
        "column_heating": 0.0,
        "column_moistening": 0.0,
        "evaporation": 3e-5,
    }
    scalars = {n: v * (1 + 0.05 * rng.normal(size=(days, places.columns))) for n, v in flux.items()}
    for name in ("convective_precipitation", "large_scale_precipitation"):
        scalars[name] = rng.exponential(4e-5, size=(days, places.columns)) * cosine[0]
    profiles["temperature_tendency"] = 2e-5 * weather
    profiles["specific_humidity_tendency"] = 2e-8 * sigma * weather
    outside = np.maximum(0.0, drift * (np.arange(days)[:, None] - 3.0) * np.linspace(0.0, 0.2, 8))
    data = {n: (("time", "level", "column"), v) for n, v in profiles.items()}
    if drift:
        data |= {"outside_temperature": (("time", "level"), outside), "outside_albedo": ("time", outside[:, 5])}
    data |= {n: (("time", "column"), v) for n, v in scalars.items()}
    return xr.Dataset(data, coords={"time": time.astype("datetime64[ns]")})


def comparison(days: int = DAYS) -> xr.Dataset:
    """A coupled run beside its control, made by the same code as a real one."""
    places = grid()
    return compare(daily(3, 0.05, days), daily(4, 0.0, days), places, (places.longitude > 180).astype(float))


def coupled_metrics(unstable: dict[str, Any] | None = None) -> dict[str, Any]:
    """Metrics of a coupled run."""
    figures = verdict(comparison())
    return {
        "days": DAYS,
        "requested_days": DAYS if unstable is None else 90,
        "finite": unstable is None,
        "first_unstable_day": None if unstable is None else DAYS,
        "unstable": unstable,
        "bridge": "jax",
        "simulated_years_per_day": 245.1,
        **figures,
        "window_days": 4,
        "periods": [{"first_day": 0, "last_day": 6} | figures, {"first_day": 6, "last_day": 12} | figures],
        "counters": {"inputs_clipped": 7e-6, "outputs_clipped": 0.04, "condensed_water": 6e-7, "positive_water": 0.0},
        "left_training": [
            {"input": "temperature", "level": 7, "day": 4, "distance": 0.8},
            {"input": "albedo", "level": None, "day": 5, "distance": 0.2},
        ],
        "energy_residual_W_m2": {"emulator": -10.8, "control": -3.9},
        "water_residual_W_m2": {"emulator": 8.2, "control": 0.1},
        "step_ms": {"own_physics": 8.2, "dynamics": 5.1, "coupled": 9.7, "network": 3.2, "coupling": 1.4},
        "versions": versions(),
    }


UNSTABLE = {
    "reason": "temperature out of bounds",
    "variable": "temperature",
    "value": 112.5,
    "level": 1,
    "sigma": 0.095,
    "latitude": -83.1,
    "longitude": 236.2,
    "time": "2002-02-14T03:30:00",
}


def make_coupled(folder: Path, unstable: dict[str, Any] | None = None) -> None:
    """A finished coupled run."""
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", coupled_metrics(unstable))
    comparison().to_zarr(folder / "comparison", mode="w", consolidated=False)


def make_demo(folder: Path, unstable: dict[str, Any] | None = None) -> Path:
    """All results of a demo."""
    folder.mkdir(parents=True, exist_ok=True)
    make_store(folder / "store.zarr")
    make_run(folder / "run", str(folder / "store.zarr"))
    (folder / "evaluation").mkdir()
    write_record(folder / "evaluation" / "scores.json", EVALUATION, scores())
    sections().to_zarr(folder / "evaluation" / "sections", mode="w", consolidated=False)
    make_coupled(folder / "coupled", unstable)
    (folder / "export").mkdir()
    exported = {
        "max_relative_difference": 4.1e-7,
        "same_batch": 0.0,
        "batches": {"1": 4.1e-7, "7": 2.0e-7, "384": 0.0},
        "file": "model.pt",
        "bytes": 1402880,
        "n_in": 45,
        "n_out": 44,
    }
    write_record(folder / "export" / "report.json", BUNDLE, exported)
    commands = ["subgrid data generate out=demo/store.zarr", "subgrid couple emulator=demo/run data=demo/store.zarr"]
    summary = {
        "stages": {"generate": 61.0, "train": 300.2, "couple": 3700.0},
        "offline": {"r2": {"temperature_tendency": {"emulator": 0.85, "ridge": 0.2, "mean": 0.0}}},
        "online": {},
        "export": {},
        "peak_memory_GiB": 3.21,
        "versions": versions(),
        "commands": commands,
    }
    write_json(folder / "summary.json", summary)
    return folder


def literature_scores(members: bool = False) -> dict[str, Any]:
    """Literature scores as the evaluation writes them: smooth profiles, a dry top, cloud phases that were rebuilt."""
    rng, sigma = np.random.default_rng(4), np.linspace(0.02, 0.99, 20)
    known = catalogue("climsim").variables
    names = [v.name for v in variable_set("v2_rh_mc").targets] + ["ptend_q0002", "ptend_q0003", "ptend_q0002_ramp"]
    variables: dict[str, Any] = {}
    for name in names:
        held = known[name.removesuffix("_ramp")]
        levels = sigma if held.kind == "profile" else np.ones(1)
        r2: list[float | None] = list(0.9 - 0.5 * (levels - 0.6) ** 2 - 0.05 * rng.random(levels.size))
        dry = held.kind == "profile" and "_q" in name
        if dry:
            r2[:3] = [None] * 3
        error = list(3.0 + 2.0 * np.cos(3.0 * levels))
        entry = {f"{score}_level": error for score in ("mae", "rmse", "bias")}
        entry |= {score: float(np.mean(error)) for score in ("mae", "rmse", "bias")}
        entry |= {"r2_level": r2, "r2_guarded_level": r2, "r2_pooled_level": [v and v + 0.05 for v in r2]}
        entry |= {"r2": None if dry else 0.7, "r2_guarded": 0.7, "r2_pooled": 0.8, "crps": 1.25 if members else None}
        entry |= {"crps_level": error if members else None, "n_constant_level": [384 * dry] + [0] * (levels.size - 1)}
        variables[name] = {"kind": held.kind, "long_name": held.long_name, "units": "W/m2", **entry, "columns": 384}
    return {
        "about": ABOUT,
        "columns": 384,
        "rows_per_column": {"least": 4300, "most": 4380},
        "days": 365,
        "levels_sigma": sigma.tolist(),
        "variables": variables,
        "rain_edges": list(1e-9 * np.arange(1, 10)),
        "published": beside(variables),
    }


def literature_sections(confidence: bool = False) -> xr.Dataset:
    """Zonal and binned means as the evaluation writes them; the southernmost band holds no column."""
    sigma, latitude = np.linspace(0.02, 0.99, 20), np.arange(-85.0, 90.0, 10.0)
    wave = np.cos(np.radians(2.0 * latitude))[:, None] * np.sin(np.pi * sigma)
    found: dict[str, Any] = {}
    for name, entry in literature_scores()["variables"].items():
        if entry["kind"] != "profile":
            continue
        units = catalogue("climsim").variables[name.removesuffix("_ramp")].units
        scale = {"K/s": 3e-5, "kg/kg/s": 1e-8, "m/s2": 1e-5}[units]
        fields = {"truth": scale * wave, "bias": 0.1 * scale * wave**3, "daily_r2": 1.0 - 0.6 * wave**2}
        if confidence:
            fields["confidence"] = 1.0 + wave
        for kind, values in fields.items():
            values = values.copy()
            values[0] = np.nan
            about = {"units": units if kind in ("truth", "bias") else "1", "long_name": entry["long_name"]}
            found[f"{kind}_{name}"] = (("latitude", "level"), values, about)
    amount = np.arange(11.0)[:, None] - 3.0
    found["moistening_truth"] = (("bin", "level"), -1e-8 * amount * sigma**2, {"units": "kg/kg/s"})
    found["moistening_bias"] = (("bin", "level"), 2e-9 * amount * sigma**2, {"units": "kg/kg/s"})
    found["rain_rows"] = (("bin",), np.array([400.0] + [100.0] * 10))
    found["rain_from"] = (("bin",), np.concatenate([[np.nan, 0.0], 1e-9 * np.arange(1, 10)]))
    return xr.Dataset(found, coords={"latitude": latitude, "sigma": ("level", sigma)})


def make_literature(folder: Path, shift: float = 0.0, **changes: Any) -> Path:
    """An evaluation with ``metrics=climsim``; ``shift`` moves its R2, as another seed would."""
    place = folder / "evaluation"
    place.mkdir(parents=True)
    result = literature_scores()
    for entry in result["variables"].values():
        for key in ("r2_guarded_level", "r2_pooled_level"):
            entry[key] = [v and v + shift for v in entry[key]]
    write_record(place / "scores.json", EVALUATION, {**scores(), "metrics": {"climsim": result}, **changes})
    literature_sections().to_zarr(place / "climsim", mode="w", consolidated=False)
    return folder
