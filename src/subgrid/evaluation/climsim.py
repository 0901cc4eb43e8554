"""The literature's scores of ClimSim: the published aggregation, daily and zonal means, bias by amount of rain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from subgrid.base.datasets import write_dataset
from subgrid.base.errors import SubgridError
from subgrid.base.progress import Progress
from subgrid.columns.store import ColumnStore, Split
from subgrid.columns.variables import Variable, VariableSet, catalogue, offsets, profiles
from subgrid.emulator.base import ColumnEmulator
from subgrid.evaluation import baselines
from subgrid.evaluation.cloud_phases import cloud_phases
from subgrid.evaluation.confidence import Confidence, confidence_of
from subgrid.evaluation.energy import air_mass, energy_factors, has_wind
from subgrid.evaluation.floors import Predictor
from subgrid.evaluation.predict import emulator_predictor
from subgrid.physics.column import wind_speed
from subgrid.scores.climsim import ColumnScores
from subgrid.scores.groups import DailyScores, GroupMeans, band_centres, latitude_band, rain_bin, rain_edges

Floats = NDArray[np.float64]
#: Dimensions, values and attributes by name.
Fields = dict[str, tuple[tuple[str, ...], Floats, dict[str, str]]]
#: The folder of sections, beside ``scores.json``.
FOLDER = "climsim"
RAIN, MOISTENING = "cam_out_PRECC", "specific_humidity_tendency"
ABOUT = {
    "aggregation": "values in W/m2 (dp/g from each sample's own surface pressure, cp, Lv, Lv rho_water) times "
    "area / mean(area); scores of each column over time; plain means over columns, then over levels",
    "wind": "wind tendencies are weighted with the speed of the input wind, in m/s, the same for prediction and truth "
    "(the published code weighs each with its own tendencies, or with normalised winds)",
    "r2": "1 - sum_t e^2 / sum_t (y - mean_t y)^2 of each column, as published; no value (--) where a column does not "
    "vary",
    "r2_guarded": "r2 without the columns that do not vary, or less than 1e-5 of the others (n_constant_level)",
    "r2_pooled": "1 - sum e^2 / sum (y - mean y)^2 over columns and times (and levels) together",
}


@dataclass(frozen=True)
class _Rows:
    """A block: raw SI values of all scored variables, (n, channel), and what belongs to each row."""

    prediction: Floats  # ([members,] n, channel)
    truth: Floats
    factor: Floats  # to W/m2, times area / mean(area)
    weight: Floats
    column: NDArray[np.int32]
    time: NDArray[np.int64]
    confidence: Floats | None  # (n, channel) of a network that gives one

    @property
    def mean(self) -> Floats:
        """The prediction, or the mean of its members."""
        return self.prediction.mean(axis=0) if self.prediction.ndim == 3 else self.prediction


class _Reader:
    """Reads a split and predicts it, block by block."""

    def __init__(
        self, variables: VariableSet, predict: Predictor, split: Split, confidence: Confidence | None = None
    ) -> None:
        self.variables, self.grid, self.split, self.predict = variables, split.store.grid, split, predict
        self.phases = cloud_phases(variables, split)
        self.scored: tuple[Variable, ...] = (*variables.targets, *(self.phases.variables if self.phases else ()))
        self.area = self.grid.area / self.grid.area.mean()
        windy = any(v.energy == "wind" for v in variables.targets)
        self.wind: tuple[Variable, ...] = ()
        if windy and not has_wind(variables):
            known = catalogue("climsim").variables
            self.wind = (known["state_u"], known["state_v"])
        split.selection(self.wind)
        self.confidence = confidence

    @property
    def place(self) -> dict[str, slice]:
        """Where each scored variable lies."""
        return offsets(self.scored, self.grid.levels)

    def rows(self, block: int) -> _Rows:
        """One block."""
        x = self.split.read_variables(self.variables.inputs, block)
        truth = self.split.read_variables(self.variables.targets, block).astype(np.float64)
        prediction = self.predict(x)
        mass = air_mass(self.variables, x, self.grid.vertical)
        factor = energy_factors(self.variables, x, mass, self._speed(block))
        if self.phases is not None:
            more = self.phases.rows(block, x, prediction, truth)
            prediction, truth = (np.concatenate(pair, axis=-1) for pair in ((prediction, more[0]), (truth, more[1])))
            latent = self.variables.physics.Lv * mass
            factor = np.concatenate([factor, *[latent] * len(self.phases.variables)], axis=1)
        column = self.split.read("column", block)
        factor *= self.area[column][:, None]
        weight = self.split.read("weight", block).astype(np.float64)
        sure = None if self.confidence is None else self.confidence.predict(x)
        return _Rows(prediction, truth, factor, weight, column, self.split.read("time", block), sure)

    def _speed(self, block: int) -> Floats | None:
        if not self.wind:
            return None
        u, v = np.split(self.split.read_variables(self.wind, block).astype(np.float64), 2, axis=1)
        return np.asarray(wind_speed(u, v))

    def rain(self) -> Floats | None:
        """True precipitation of every row of the split, (samples,); None if it is not predicted."""
        found = [v for v in self.variables.targets if v.name == RAIN]
        if not found:
            return None
        parts = [self.split.read_variables(found, block)[:, 0] for block in range(self.split.blocks)]
        return np.concatenate(parts).astype(np.float64)


class _Sums:
    """Everything that is summed over the blocks."""

    def __init__(self, reader: _Reader, edges: Floats | None) -> None:
        levels, self.place = reader.grid.levels, reader.place
        self.columns = ColumnScores({v.name: v.width(levels) for v in reader.scored}, reader.grid.columns)
        self.profiles = [v for v in reader.scored if v.kind == "profile"]
        self.channels = np.concatenate(
            [np.arange(self.place[v.name].start, self.place[v.name].stop) for v in self.profiles]
        )
        self.band = latitude_band(reader.grid.latitude)
        bands = band_centres().size
        self.truth, self.bias = (GroupMeans(bands, self.channels.size) for _ in range(2))
        self.daily = DailyScores(bands, self.channels.size)
        sure = reader.confidence
        self.confidence = None if sure is None else GroupMeans(bands, sure.width)
        moistening = next((v for v in reader.variables.targets if v.quantity == MOISTENING), None)
        self.edges = edges if moistening is not None else None
        if self.edges is not None and moistening is not None:
            self.rain, self.moistening = self.place[RAIN].start, self.place[moistening.name]
            self.wet_truth, self.wet_bias = (GroupMeans(self.edges.size + 2, levels) for _ in range(2))

    def update(self, rows: _Rows) -> None:
        """Add a block."""
        self.columns.update(rows.prediction * rows.factor, rows.truth * rows.factor, rows.column)
        prediction, truth = (np.take(a, self.channels, axis=1) for a in (rows.mean, rows.truth))
        band = self.band[rows.column]
        self.truth.update(truth, rows.weight, band)
        with np.errstate(invalid="ignore", over="ignore"):
            self.bias.update(prediction - truth, rows.weight, band)
        self.daily.update(prediction, truth, rows.weight, band, rows.time)
        if self.confidence is not None and rows.confidence is not None:
            self.confidence.update(rows.confidence, rows.weight, band)
        if self.edges is not None:
            group = rain_bin(rows.truth[:, self.rain], self.edges)
            equal, wetter = np.ones(len(group)), rows.truth[:, self.moistening]
            self.wet_truth.update(wetter, equal, group)
            self.wet_bias.update(rows.mean[:, self.moistening] - wetter, equal, group)


def climsim_metrics(emulator: ColumnEmulator, store: ColumnStore, split: Split, out: Path) -> dict[str, Any]:
    """The published scores of ``emulator`` on ``split``, see :func:`score`; where it gives a confidence, that too."""
    del store
    return score(emulator.variables, emulator_predictor(emulator), split, out, confidence_of(emulator))


def score(
    variables: VariableSet, predict: Predictor, split: Split, out: Path, confidence: Confidence | None = None
) -> dict[str, Any]:
    """The published scores of a prediction, and beside them those that cannot be undefined.

    Written below ``out``: ``climsim``, a Zarr group with the true zonal mean, bias and R2 of daily means of each
    profile in bands of 10 degrees, the zonal mean of a network's confidence, and the moistening and its bias by amount
    of rain (no rain, then ten bins of equal numbers of rows).

    Args:
        variables: what is read and predicted.
        predict: raw SI columns (n, n_in) to (n, channel), or to members (members, n, channel).
        split: the rows.
        out: folder.
        confidence: of a network that says how sure it is.

    Returns:
        ``variables`` (scores of each target in W/m2 times area / mean(area); of cloud liquid and ice too, against the
        true tendencies and, as ``*_ramp``, against truth that went through the same ramp), ``published`` (the run
        beside the six published networks), ``about`` (what the scores are) and the number of columns, rows and days.

    Raises:
        SubgridError: the split is empty.
        UsageError: the store lacks a variable.
    """
    if not split.samples:
        raise SubgridError(f"{split.folder} holds no samples to score")
    reader = _Reader(variables, predict, split, confidence)
    rain = reader.rain()
    sums = _Sums(reader, None if rain is None else rain_edges(rain))
    del rain
    with Progress("evaluate climsim", split.blocks, "blocks") as bar:
        for block in range(split.blocks):
            sums.update(reader.rows(block))
            bar.update(1)
    _write(out / FOLDER, reader, sums)
    return _described(reader, sums)


def _described(reader: _Reader, sums: _Sums) -> dict[str, Any]:
    scores = sums.columns.result()
    variables = {
        v.name: {
            "kind": v.kind,
            "long_name": v.long_name,
            "units": "W/m2" if v.energy else v.units,
            **scores[v.name].to_dict(),
        }
        for v in reader.scored
    }
    seen = sums.columns.count[sums.columns.count > 0]
    return {
        "about": ABOUT,
        "columns": int(seen.size),
        "rows_per_column": {"least": int(seen.min()), "most": int(seen.max())},
        "days": len(sums.daily.days),
        "levels_sigma": list(reader.grid.vertical.sigma_levels),
        "variables": variables,
        "rain_edges": None if sums.edges is None else sums.edges.tolist(),
        "published": baselines.beside(variables),
    }


def _write(path: Path, reader: _Reader, sums: _Sums) -> None:
    """The sections, in place of older ones."""
    sigma = np.asarray(reader.grid.vertical.sigma_levels)
    fields = {**_zonal(reader, sums), **_by_rain(sums)}
    dataset = xr.Dataset(fields, coords={"latitude": band_centres(), "sigma": ("level", sigma)})
    write_dataset(path, dataset)


def _zonal(reader: _Reader, sums: _Sums) -> Fields:
    """Fields on (latitude, level)."""
    levels = reader.grid.levels
    found: Fields = {}

    def add(kind: str, variables: list[Variable], values: Floats, units: str = "") -> None:
        for k, v in enumerate(variables):
            about = {"units": units or v.units, "long_name": v.long_name}
            found[f"{kind}_{v.name}"] = (("latitude", "level"), values[:, k * levels : (k + 1) * levels], about)

    add("truth", sums.profiles, sums.truth.mean())
    add("bias", sums.profiles, sums.bias.mean())
    add("daily_r2", sums.profiles, sums.daily.r2(), "1")
    if sums.confidence is not None and reader.confidence is not None:
        add("confidence", profiles(reader.confidence.variables), sums.confidence.mean(), "1")
    return found


def _by_rain(sums: _Sums) -> Fields:
    """Moistening on (bin, level)."""
    if sums.edges is None:
        return {}
    units = {"units": "kg/kg/s"}
    return {
        "moistening_truth": (("bin", "level"), sums.wet_truth.mean(), units),
        "moistening_bias": (("bin", "level"), sums.wet_bias.mean(), units),
        "rain_rows": (("bin",), sums.wet_truth.weight, {"units": "1"}),
        "rain_from": (("bin",), np.concatenate([[np.nan, 0.0], sums.edges]), {"units": "m/s"}),
    }


def climsim_lines(name: str, result: dict[str, Any]) -> list[str]:
    """What a terminal shows: the run's scores, then the published tables with the run's row."""
    heads = ("MAE", "RMSE", "bias", "R2", "guarded", "pooled")
    found = [f"{name + ' (W/m2)':24s}" + "".join(f"{head:>11s}" for head in heads) + "  constant columns"]
    for variable, entry in result["variables"].items():
        values = [entry[key] for key in ("mae", "rmse", "bias", "r2", "r2_guarded", "r2_pooled")]
        cells = "".join(f"{'--':>11s}" if v is None else f"{v:11.4g}" for v in values)
        most = max(entry["n_constant_level"])
        found.append(f"{variable:24s}{cells}  {most} of {entry['columns']}" + (" at worst" if most else ""))
    table = result["published"]
    return found + (["", *baselines.lines(table)] if table else [])
