"""Small synthetic data in ClimSim's very schema: a grid file, and mli and mlo files of consecutive steps.

The columns are plausible, not real: a hydrostatic hybrid grid, a moist lower troposphere, cloud where the air is
near saturation, a sun that rises and sets. Physics (what an emulator learns) is a function of the state plus noise;
dynamics pulls the state after each step towards a smooth climate of travelling waves, so a state never drifts. Every
file says so in its attribute ``source``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from subgrid.base.errors import SubgridError, UsageError, require_seed, unknown_name
from subgrid.base.files import make_folder, only_writer, write_file
from subgrid.base.progress import Progress
from subgrid.columns.climsim.derive import FILLED
from subgrid.columns.climsim.files import SPLITS
from subgrid.columns.climsim.names import (
    CALENDAR,
    GRID_SUFFIX,
    MONTH_DAYS,
    STEP,
    STEPS_PER_DAY,
    file_name,
    month_name,
    step_number,
    step_time,
)
from subgrid.columns.grid import ColumnGrid
from subgrid.columns.variables import Variable, catalogue, variable_set
from subgrid.physics.constants import E3SM
from subgrid.physics.moisture import liquid_partition, saturation_specific_humidity
from subgrid.physics.vertical import VerticalGrid

logger = logging.getLogger("subgrid")

#: NetCDF formats by the word that asks for them.
FORMATS: dict[str, Literal["NETCDF3_64BIT_DATA", "NETCDF4"]] = {"cdf5": "NETCDF3_64BIT_DATA", "netcdf4": "NETCDF4"}
SOURCE = "synthetic: made by subgrid data sample, not by E3SM-MMF"
#: What E3SM writes where a variable has no value.
E3SM_FILL = 1e30
TOP = 1e-4  # p / p0 at the model top: 0.1 hPa
PURE_PRESSURE = 0.15  # p / p0 above which levels no longer follow the surface
SCALE_HEIGHT = 7000.0  # m
RELAXATION = 6.0 * 3600.0  # s, of the state after physics to the climate

Values = NDArray[np.float64]
State = dict[str, Values]
#: The state that physics changes, in the order of the files.
STATE = ("state_t", "state_q0001", "state_q0002", "state_q0003", "state_u", "state_v")


@dataclass(frozen=True)
class SampleConfig:
    """Synthetic files.

    Args:
        days: consecutive days at the start of each published period (train, val, test).
        columns, levels: size of the grid.
        stride: write every so many steps of each period; the state between them is computed all the same.
        format: ``cdf5`` (as published) or ``netcdf4``.
        seed: of the waves and of the noise.
    """

    days: int = 1
    columns: int = 384
    levels: int = 60
    stride: int = 1
    format: str = "cdf5"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("days", 1), ("columns", 2), ("levels", 8), ("stride", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.days > MONTH_DAYS[1]:
            raise UsageError(f"days={self.days} must be at most {MONTH_DAYS[1]}: a period's first month is February")
        if self.format not in FORMATS:
            raise unknown_name("format", self.format, FORMATS)
        require_seed(self.seed)


def sample_grid(columns: int, levels: int) -> ColumnGrid:
    """``columns`` columns of one area, spread over the sphere on a spiral, and ``levels`` hybrid levels.

    Interfaces lie at heights ``64.5 km (1 - k / levels)^2`` of an atmosphere with a scale height of 7 km; above
    150 hPa they are of pure pressure (``hybi`` = 0).
    """
    index = np.arange(columns) + 0.5
    latitude = np.rad2deg(np.arcsin(2.0 * index / columns - 1.0))
    longitude = (index * 180.0 * (3.0 - np.sqrt(5.0))) % 360.0
    eta = TOP ** np.square(1.0 - np.arange(levels + 1) / levels)
    hybi = np.clip((eta - PURE_PRESSURE) / (1.0 - PURE_PRESSURE), 0.0, 1.0) ** 1.5
    vertical = VerticalGrid.hybrid((eta - hybi).tolist(), hybi.tolist(), p0=E3SM.p0)
    return ColumnGrid(latitude, longitude, np.full(columns, 4.0 * np.pi / columns), vertical)


class _Climate:
    """The smooth climate of the synthetic planet: what dynamics pulls the state to, and its surface."""

    def __init__(self, grid: ColumnGrid, seed: int) -> None:
        self.grid = grid
        random = np.random.default_rng(seed)
        self.latitude, self.longitude = np.deg2rad(grid.latitude), np.deg2rad(grid.longitude)
        #: Waves: number around the globe, phase (rad), period (s), depth in the vertical.
        self.waves = [
            (m, random.uniform(0, 2 * np.pi), random.uniform(2, 6) * 86400.0, random.uniform(0.5, 2.0))
            for m in range(1, 7)
        ]
        land = sum(np.cos(m * self.longitude + phase) for m, phase, _, _ in self.waves[:3])
        self.land = np.clip(0.5 + land + np.sin(2.0 * self.latitude), 0.0, 1.0)
        self.eta = np.asarray(grid.vertical.sigma_levels)[:, None]
        self.height = -SCALE_HEIGHT * np.log(self.eta)

    def wave(self, time: float, power: float = 1.0) -> Values:
        """Travelling waves of order one, strongest in middle latitudes, (level, column)."""
        total = np.zeros((len(self.eta), self.grid.columns))
        for m, phase, period, depth in self.waves:
            turning = m * self.longitude + phase - 2.0 * np.pi * time / period
            total += np.cos(turning + depth * self.height / 1e4) / np.sqrt(len(self.waves))
        return total * np.cos(self.latitude) ** power * np.exp(-self.height / 4e4)

    def sun(self, time: float) -> Values:
        """Cosine of the solar zenith angle, at least 0, (column,); ``time`` in s since 1 January of a noleap year."""
        day, seconds = divmod(time, 86400.0)
        declination = np.deg2rad(-23.44) * np.cos(2.0 * np.pi * (day + 10.0) / 365.0)
        hour = 2.0 * np.pi * seconds / 86400.0 + self.longitude - np.pi
        high = np.sin(self.latitude) * np.sin(declination)
        return np.maximum(high + np.cos(self.latitude) * np.cos(declination) * np.cos(hour), 0.0)

    def surface_temperature(self, time: float) -> Values:
        """(column,), K: warm at the equator, land following the sun."""
        return 300.0 - 48.0 * np.sin(self.latitude) ** 2 + self.land * (4.0 * self.sun(time) - 2.0)

    def surface_pressure(self, time: float) -> Values:
        """(column,), Pa: lower over high land."""
        return 1.005e5 - 2.0e4 * np.maximum(self.land - 0.7, 0.0) + 700.0 * self.wave(time)[-1]

    def state(self, time: float) -> State:
        """Temperature, humidity, cloud and wind, (level, column)."""
        surface, wave = self.surface_temperature(time), self.wave(time)
        tropopause = 205.0 + 15.0 * np.sin(self.latitude) ** 2
        below = surface - 6.5e-3 * self.height
        above = tropopause + 1.8e-3 * np.clip(self.height - 2e4, 0.0, 3e4)
        t = np.maximum(below, above) + 3.0 * wave
        pressure = np.asarray(self.grid.vertical.mid_pressure(self.surface_pressure(time))).T
        saturated = saturation_specific_humidity(t, pressure, "sam")
        humidity = np.clip(0.25 + 0.55 * np.exp(-self.height / 4e3) + 0.35 * self.wave(time * 1.3, 0.3), 0.02, 1.0)
        q = np.where(self.eta > 0.1, humidity * saturated, 3e-6)
        cloud = self._cloud(t, q / saturated)
        jet = 35.0 * np.sin(2.0 * self.latitude) ** 2 * np.exp(-(((self.height - 1.1e4) / 7e3) ** 2))
        return {
            "state_t": t,
            "state_q0001": np.minimum(q, saturated),
            "state_q0002": cloud * liquid_partition(t),
            "state_q0003": cloud * (1.0 - liquid_partition(t)),
            "state_u": jet - 4.0 * np.cos(self.latitude) ** 4 + 6.0 * wave,
            "state_v": 5.0 * self.wave(time * 0.8),
        }

    def _cloud(self, t: Values, humidity: Values) -> Values:
        """Cloud water where the air is near saturation, none aloft, kg/kg."""
        return np.where(self.eta > 0.08, 4e-4 * np.clip((humidity - 0.8) / 0.2, 0.0, 1.0) ** 2, 0.0) * (t > 190.0)


class _Planet:
    """Steps the synthetic atmosphere: :meth:`steps` yields what the files of each step hold."""

    def __init__(self, grid: ColumnGrid, seed: int) -> None:
        self.grid, self.climate, self.seed = grid, _Climate(grid, seed), seed

    def steps(self, first: int, count: int) -> Iterator[tuple[int, State, State]]:
        """(step, mli, mlo) of ``count`` steps from the step ``first``."""
        random = np.random.default_rng([self.seed, first])
        state = self.climate.state(_seconds(first))
        for number in range(first, first + count):
            boundary = self._boundary(_seconds(number), state)
            tendencies, fluxes = self._physics(state, boundary, random)
            after = {name: state[name] + STEP * tendencies[name] for name in STATE}
            for name in STATE[1:4]:
                after[name] = np.maximum(after[name], 0.0)
            after["state_q0002"] = np.where(self.climate.eta > 0.08, after["state_q0002"], 0.0)
            yield number, {**state, **boundary}, {**after, **fluxes}
            target = self.climate.state(_seconds(number + 1))
            share = STEP / RELAXATION
            state = {name: after[name] + share * (target[name] - after[name]) for name in STATE}

    def _boundary(self, time: float, state: State) -> State:
        """Surface, radiation and gases before physics."""
        climate = self.climate
        sun, land, surface = climate.sun(time), climate.land, climate.surface_temperature(time)
        ice = np.clip((271.0 - surface) / 6.0, 0.0, 1.0) * (1.0 - land)
        snow = np.where(surface < 273.0, 0.05 * land * (273.0 - surface) / 20.0, 0.0)
        albedo = 0.06 + 0.15 * land + 0.5 * ice + np.minimum(4.0 * snow, 0.4)
        ps, u, v = climate.surface_pressure(time), state["state_u"][-1], state["state_v"][-1]
        speed = np.sqrt(np.square(u) + np.square(v) + 1.0)
        saturated = np.asarray(saturation_specific_humidity(surface, ps, "sam"))
        wet = (1.0 - 0.6 * land) * (1.0 - 0.8 * ice)
        density = ps / (E3SM.Rd * surface)
        evaporation = 1.2e-3 * density * speed * wet * np.maximum(saturated - state["state_q0001"][-1], 0.0)
        return {
            "state_ps": ps,
            "state_pmid": np.asarray(self.grid.vertical.mid_pressure(ps)).T,
            "pbuf_SOLIN": 1360.0 * sun,
            "pbuf_LHFLX": E3SM.Lv * evaporation,
            "pbuf_SHFLX": 1.2e-3 * density * speed * E3SM.cp * (surface - state["state_t"][-1]),
            "pbuf_TAUX": -1.3e-3 * density * speed * u,
            "pbuf_TAUY": -1.3e-3 * density * speed * v,
            "pbuf_COSZRS": sun,
            "cam_in_ALDIF": np.minimum(albedo + 0.02, 1.0),
            "cam_in_ALDIR": np.minimum(albedo + 0.03 * (1.0 - sun), 1.0),
            "cam_in_ASDIF": albedo,
            "cam_in_ASDIR": np.minimum(albedo + 0.02 * (1.0 - sun), 1.0),
            "cam_in_LWUP": E3SM.stefan_boltzmann * surface**4,
            "cam_in_ICEFRAC": ice,
            "cam_in_LANDFRAC": land,
            "cam_in_OCNFRAC": 1.0 - land - ice,
            FILLED: np.where(ice > 0.0, 0.1 * ice, E3SM_FILL),
            "cam_in_SNOWHLAND": snow,
            **self._gases(),
        }

    def _gases(self) -> State:
        height, ones = self.climate.height, np.ones(self.grid.columns)
        tropics = 1.0 + 0.2 * np.cos(self.climate.latitude)
        aloft = np.clip((height - 1.6e4) / 3e4, 0.0, 1.0)
        return {
            "pbuf_ozone": (3e-8 + 8e-6 * np.exp(-(((height - 3.2e4) / 9e3) ** 2))) * tropics,
            "pbuf_CH4": 1.75e-6 * (1.0 - 0.8 * aloft * tropics / 1.2) * ones,
            "pbuf_N2O": 3.2e-7 * (1.0 - 0.9 * aloft * tropics / 1.2) * ones,
        }

    def _physics(self, state: State, boundary: State, random: np.random.Generator) -> tuple[State, State]:
        """Tendencies of the state and fluxes to the surface: functions of the columns, with noise of a few percent."""
        t, q, liquid, ice = (state[name] for name in STATE[:4])
        pressure, ps = boundary["state_pmid"], boundary["state_ps"]
        thickness = np.asarray(self.grid.vertical.layer_thickness(ps)).T
        saturated = np.asarray(saturation_specific_humidity(t, pressure, "sam"))
        lower = self.climate.eta > 0.08
        noise = 1.0 + 0.05 * random.standard_normal(t.shape)
        condensing = np.where(lower, np.maximum(q - 0.75 * saturated, 0.0) / (4.0 * 3600.0), 0.0) * noise
        falling = np.where(lower, (liquid + ice) / (3.0 * 3600.0), 0.0) * noise
        surface_layer = np.where(self.climate.height < 1500.0, thickness, 0.0)
        spread = surface_layer / surface_layer.sum(axis=0)
        evaporating = spread * E3SM.gravity / thickness * boundary["pbuf_LHFLX"] / E3SM.Lv
        share = liquid_partition(t)
        cooling = (1.5 + 0.5 * np.tanh(q / 5e-3)) / 86400.0
        absorbed = boundary["pbuf_SOLIN"] * (1.5e-8 + 3e-3 * boundary["pbuf_ozone"] + 4e-7 * np.minimum(q, 0.02))
        warming = spread * E3SM.gravity / thickness * boundary["pbuf_SHFLX"] / E3SM.cp
        drag = 1.0 / (2.0 * 86400.0) * np.exp(-self.climate.height / 1200.0) + 1.0 / (60.0 * 86400.0)
        tendencies = {
            "state_t": (absorbed - cooling + warming) * noise + E3SM.Lv / E3SM.cp * condensing,
            "state_q0001": evaporating * noise - condensing,
            "state_q0002": share * (condensing - falling),
            "state_q0003": (1.0 - share) * (condensing - falling),
            "state_u": -drag * state["state_u"] * noise,
            "state_v": -drag * state["state_v"] * noise,
        }
        rain = np.maximum((falling * thickness).sum(axis=0) / E3SM.gravity / E3SM.rho_water, 0.0)
        path = ((liquid + ice) * thickness).sum(axis=0) / E3SM.gravity
        return tendencies, self._fluxes(state, boundary, rain, path)

    def _fluxes(self, state: State, boundary: State, rain: Values, cloud_path: Values) -> State:
        """What the surface receives, from the rain (m/s) and the cloud water above it (kg/m2)."""
        t, sun = state["state_t"][-1], boundary["pbuf_SOLIN"]
        clear = np.exp(-4.0 * cloud_path)
        through = sun * (0.2 + 0.55 * clear)
        frozen = 1.0 - liquid_partition(t - 10.0)
        emissivity = 0.72 + 0.2 * (1.0 - clear) + 3.0 * np.minimum(state["state_q0001"][-1], 0.025)
        direct, visible = 0.85 * clear, 0.48
        absorbed = 1.0 - (boundary["cam_in_ASDIF"] + boundary["cam_in_ALDIF"]) / 2.0
        return {
            "cam_out_NETSW": through * absorbed,
            "cam_out_FLWDS": np.minimum(emissivity, 1.0) * E3SM.stefan_boltzmann * t**4,
            "cam_out_PRECSC": rain * frozen,
            "cam_out_PRECC": rain,
            "cam_out_SOLS": through * visible * direct,
            "cam_out_SOLL": through * (1.0 - visible) * direct,
            "cam_out_SOLSD": through * visible * (1.0 - direct),
            "cam_out_SOLLD": through * (1.0 - visible) * (1.0 - direct),
        }


def _seconds(number: int) -> float:
    """s of the step ``number`` since the first of January of the year 1: whole noleap years are whole turns."""
    return float((number - step_number(1, 1, 1, 0)) * STEP)


@cache
def file_variables() -> dict[str, tuple[Variable, ...]]:
    """What files of each kind hold, in their order: the set v2 and ``state_pmid``, and its state and fluxes after."""
    published, known = variable_set("v2"), catalogue("climsim").variables
    order = [known[name] for name in published.published_inputs] or list(published.inputs)
    pressure = Variable("state_pmid", "profile", "Pa", "pressure at the middles of the layers")
    after = (*(known[name] for name in STATE), *(v for v in published.targets if v.kind == "scalar"))
    return {"mli": (*order, pressure), "mlo": after}


def write_step(folder: Path, kind: str, number: int, values: Mapping[str, Values], file_format: str) -> Path:
    """Write one file of a step, in its month's folder below ``folder``; returns its path."""
    import netCDF4

    year, month, day, seconds = step_time(number)
    path = folder / month_name(year, month) / file_name(kind, year, month, day, seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    levels, columns = values["state_t"].shape

    def write(beside: Path) -> None:
        with netCDF4.Dataset(beside, "w", format=FORMATS[file_format]) as file:
            file.source, file.title = SOURCE, "ClimSim columns " + {"mli": "before", "mlo": "after"}[kind] + " physics"
            file.calendar, file.time_step_seconds = CALENDAR, STEP
            file.createDimension("lev", levels)
            file.createDimension("ncol", columns)
            for name, date in (("ymd", year * 10000 + month * 100 + day), ("tod", seconds)):
                file.createVariable(name, "i4", ()).assignValue(date)
            made = [(v, _create(file, v)) for v in file_variables()[kind]]
            for variable, into in made:
                into[...] = values[variable.name]

    write_file(path, write, flush=False)
    return path


def _create(file: Any, variable: Variable) -> Any:
    dimensions = ("lev", "ncol") if variable.kind == "profile" else ("ncol",)
    into = file.createVariable(variable.name, "f8", dimensions, fill_value=False)
    into.units, into.long_name = variable.units, variable.long_name
    if variable.name == FILLED:
        into.comment = f"{E3SM_FILL:g} where there is no sea ice"
    return into


def write_grid(path: Path, grid: ColumnGrid, file_format: str) -> None:
    """Write a grid file as ClimSim publishes it."""
    import netCDF4

    vertical = grid.vertical
    middles, interfaces = (
        np.asarray(a) + np.asarray(b) for a, b in ((vertical.hyam, vertical.hybm), (vertical.hyai, vertical.hybi))
    )
    fields: dict[str, tuple[tuple[str, ...], Any, str, str]] = {
        "P0": ((), vertical.p0, "Pa", "reference pressure"),
        "lat": (("ncol",), grid.latitude, "degrees_north", "latitude"),
        "lon": (("ncol",), grid.longitude, "degrees_east", "longitude"),
        "area": (("ncol",), grid.area, "sr", "physics grid areas"),
        "hyam": (("lev",), vertical.hyam, "1", "hybrid A coefficient at layer midpoints"),
        "hybm": (("lev",), vertical.hybm, "1", "hybrid B coefficient at layer midpoints"),
        "hyai": (("ilev",), vertical.hyai, "1", "hybrid A coefficient at layer interfaces"),
        "hybi": (("ilev",), vertical.hybi, "1", "hybrid B coefficient at layer interfaces"),
        "lev": (("lev",), 1000.0 * middles, "hPa", "hybrid level at midpoints (1000*(A+B))"),
        "ilev": (("ilev",), 1000.0 * interfaces, "hPa", "hybrid level at interfaces (1000*(A+B))"),
    }

    def write(beside: Path) -> None:
        with netCDF4.Dataset(beside, "w", format=FORMATS[file_format]) as file:
            file.source, file.title = SOURCE, "grid of synthetic ClimSim columns"
            for name, size in (("ncol", grid.columns), ("lev", grid.levels), ("ilev", grid.levels + 1)):
                file.createDimension(name, size)
            for name, (dimensions, values, units, long_name) in fields.items():
                into = file.createVariable(name, "f8", dimensions, fill_value=False)
                into.units, into.long_name = units, long_name
                into[...] = values

    write_file(path, write)


def periods() -> list[int]:
    """The first step of each published period: train, val and test."""
    return [step_number(*SPLITS[name].first, 1, 0) for name in ("train", "val", "test")]


def write_sample(out: Path | str, config: SampleConfig) -> dict[str, Any]:
    """Write synthetic files below ``out/train`` (months) and the grid file in ``out``; returns a summary.

    The same settings make the same values. What is there already is written again.

    Raises:
        SubgridError: ``out`` cannot be written, or holds files that are not synthetic.
    """
    out = Path(out)
    grid = sample_grid(config.columns, config.levels)
    with only_writer(out):
        make_folder(out)
        grid_file = out / f"synthetic_{config.columns}_{GRID_SUFFIX}"
        _refuse_foreign(out, grid_file)
        write_grid(grid_file, grid, config.format)
        planet, steps, files = _Planet(grid, config.seed), config.days * STEPS_PER_DAY, list[Path]()
        with Progress("sample", len(periods()) * steps, "steps") as bar:
            for first in periods():
                for number, before, after in planet.steps(first, steps):
                    if (number - first) % config.stride == 0:
                        for kind, values in (("mli", before), ("mlo", after)):
                            files.append(write_step(out / "train", kind, number, values, config.format))
                    bar.update(1)
    return {
        "folder": str(out / "train"),
        "grid": str(grid_file),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "columns": config.columns,
        "levels": config.levels,
        "days": config.days,
    }


def _refuse_foreign(out: Path, grid_file: Path) -> None:
    """Never write among files that this did not make."""
    others = [path for path in [*out.glob("*.nc"), *out.glob("train/*/*.nc")][:1] if path != grid_file]
    known = grid_file.exists()
    if others and not known:
        raise SubgridError(f"{out} holds other files ({others[0].name}): choose an empty folder for the sample")
